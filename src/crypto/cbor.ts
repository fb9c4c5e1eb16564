/**
 * Deterministic CBOR (RFC 8949 section 4.2.1): the canonical bytes of row MACs and audit entries.
 *
 * Taken: integers from -2^64 to 2^64 - 1 (number or bigint), byte and text strings, arrays, maps
 * with text or integer keys, true, false, null. Not taken: floats, tags, undefined, indefinite
 * lengths. Lengths and integers are in their shortest form; map keys are sorted bytewise by their
 * encoding; duplicate keys are refused.
 */
import { TwofoldError } from '../errors.ts';
import { concatBytes, utf8 } from './bytes.ts';

export type CborKey = string | number | bigint;

/** What the decoder gives: integers as number where safe, else bigint; maps as Map. */
export type CborDecoded =
  | number
  | bigint
  | string
  | boolean
  | null
  | Uint8Array
  | CborDecoded[]
  | Map<CborKey, CborDecoded>;

/** What the encoder takes: also plain objects, as maps with text keys (undefined is refused). */
export type CborValue =
  | number
  | bigint
  | string
  | boolean
  | null
  | Uint8Array
  | readonly CborValue[]
  | ReadonlyMap<CborKey, CborValue>
  | { readonly [name: string]: CborValue };

/** Major types (RFC 8949 section 3.1), already shifted into the initial byte. */
const UNSIGNED = 0x00;
const NEGATIVE = 0x20;
const BYTES = 0x40;
const TEXT = 0x60;
const ARRAY = 0x80;
const MAP = 0xa0;
const SIMPLE = 0xe0;

const FALSE = 0xf4;
const TRUE = 0xf5;
const NULL = 0xf6;

/** Deeper input is refused before the stack is. */
const MAX_DEPTH = 64;
const MAX_UINT64 = 0xffff_ffff_ffff_ffffn;

/** Initial byte and argument, in the shortest of the five forms. */
function encodeHead(major: number, argument: number | bigint): Uint8Array {
  if (argument < 24) return Uint8Array.of(major | Number(argument));
  const width = argument <= 0xff ? 1 : argument <= 0xffff ? 2 : argument <= 0xffff_ffff ? 4 : 8;
  const head = Buffer.alloc(1 + width);
  head[0] = major | (24 + Math.log2(width));
  if (width === 8) head.writeBigUInt64BE(BigInt(argument), 1);
  else head.writeUIntBE(Number(argument), 1, width);
  return head;
}

function encodeInteger(value: number | bigint): Uint8Array {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw new TypeError('CBOR takes safe integers only; use bigint');
  }
  const integer = BigInt(value);
  const argument = integer < 0n ? -1n - integer : integer;
  if (argument > MAX_UINT64) throw new TypeError('the integer does not fit CBOR');
  return encodeHead(integer < 0n ? NEGATIVE : UNSIGNED, argument);
}

function encodeText(value: string): Uint8Array {
  if (!value.isWellFormed()) throw new TypeError('the string holds a lone surrogate');
  const bytes = utf8(value);
  return concatBytes(encodeHead(TEXT, bytes.length), bytes);
}

function encodeMap(entries: readonly (readonly [CborKey, CborValue])[]): Uint8Array {
  const pairs = entries.map(([key, value]) => [encodeCbor(key), encodeCbor(value)] as const);
  pairs.sort(([a], [b]) => Buffer.compare(a, b));
  pairs.forEach(([key], index) => {
    const previous = pairs[index - 1];
    if (previous !== undefined && Buffer.compare(previous[0], key) === 0) {
      throw new TypeError('the map holds a key twice');
    }
  });
  return concatBytes(encodeHead(MAP, pairs.length), ...pairs.flat());
}

function encodeObject(value: Exclude<CborValue, number | bigint | string | boolean | null>) {
  if (value instanceof Uint8Array) {
    return concatBytes(encodeHead(BYTES, value.length), value);
  }
  if (Array.isArray(value)) {
    const items: readonly CborValue[] = value;
    return concatBytes(encodeHead(ARRAY, items.length), ...items.map(encodeCbor));
  }
  if (value instanceof Map) return encodeMap([...(value as ReadonlyMap<CborKey, CborValue>)]);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new TypeError('CBOR takes plain objects only');
  }
  return encodeMap(Object.entries(value as { readonly [name: string]: CborValue }));
}

/** @throws TypeError for a value outside the model above (a programming error) */
export function encodeCbor(value: CborValue): Uint8Array {
  if (value === null) return Uint8Array.of(NULL);
  if (typeof value === 'boolean') return Uint8Array.of(value ? TRUE : FALSE);
  if (typeof value === 'number' || typeof value === 'bigint') return encodeInteger(value);
  if (typeof value === 'string') return encodeText(value);
  if (typeof value === 'object') return encodeObject(value);
  throw new TypeError(`CBOR does not take ${typeof value}`);
}

const notCanonical = () => new TwofoldError('integrity_failed', 'The CBOR is not canonical.');

/** Reads one strict item after another; every length is checked before it is used. */
class CborReader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#offset === this.#bytes.length;
  }

  item(depth: number): CborDecoded {
    if (depth > MAX_DEPTH) throw notCanonical();
    const initial = this.#take(1)[0] ?? 0;
    const major = initial & 0xe0;
    if (major === SIMPLE) return simpleValue(initial);
    const argument = this.#argument(initial & 0x1f);
    if (major === UNSIGNED) return narrow(argument);
    if (major === NEGATIVE) return narrow(-1n - argument);
    if (major === BYTES) return Uint8Array.from(this.#take(narrowLength(argument)));
    if (major === TEXT) return decodeText(this.#take(narrowLength(argument)));
    if (major === ARRAY) return this.#array(narrowLength(argument), depth);
    if (major === MAP) return this.#map(narrowLength(argument), depth);
    throw notCanonical();
  }

  #take(length: number): Uint8Array {
    const end = this.#offset + length;
    if (end > this.#bytes.length) throw notCanonical();
    const taken = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return taken;
  }

  #argument(additional: number): bigint {
    if (additional < 24) return BigInt(additional);
    if (additional > 27) throw notCanonical();
    const bytes = this.#take(1 << (additional - 24));
    const value = BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
    // The next shorter form must not have been enough.
    const shorter = additional === 24 ? 23n : (1n << BigInt(bytes.length * 4)) - 1n;
    if (value <= shorter) throw notCanonical();
    return value;
  }

  #array(length: number, depth: number): CborDecoded[] {
    const items: CborDecoded[] = [];
    for (let i = 0; i < length; i += 1) items.push(this.item(depth + 1));
    return items;
  }

  #map(length: number, depth: number): Map<CborKey, CborDecoded> {
    const map = new Map<CborKey, CborDecoded>();
    let previous: Uint8Array | undefined;
    for (let i = 0; i < length; i += 1) {
      const start = this.#offset;
      const key = this.item(depth + 1);
      const encoded = this.#bytes.subarray(start, this.#offset);
      if (previous !== undefined && Buffer.compare(previous, encoded) >= 0) throw notCanonical();
      if (typeof key !== 'string' && typeof key !== 'number' && typeof key !== 'bigint') {
        throw notCanonical();
      }
      map.set(key, this.item(depth + 1));
      previous = encoded;
    }
    return map;
  }
}

function simpleValue(initial: number): boolean | null {
  if (initial === FALSE) return false;
  if (initial === TRUE) return true;
  if (initial === NULL) return null;
  throw notCanonical();
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** Longer than any buffer is as wrong as longer than this one. */
function narrowLength(value: bigint): number {
  if (value > 0xffff_ffffn) throw notCanonical();
  return Number(value);
}

function decodeText(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw notCanonical();
  }
}

/**
 * Exactly one item, in exactly the form that `encodeCbor` writes.
 * @throws TwofoldError integrity_failed for anything else
 */
export function decodeCbor(bytes: Uint8Array): CborDecoded {
  const reader = new CborReader(bytes);
  const value = reader.item(0);
  if (!reader.done) throw notCanonical();
  return value;
}
