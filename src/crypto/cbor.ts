/**
 * Deterministic CBOR (RFC 8949 section 4.2.1): the canonical bytes of row MACs and audit entries.
 *
 * Taken: integers from -2^64 to 2^64 - 1 (number or bigint), byte and text strings, arrays, maps
 * with text or integer keys, true, false, null. Not taken: floats, tags, undefined, indefinite
 * lengths. Lengths and integers are in their shortest form; map keys are sorted bytewise by their
 * encoding; duplicate keys are refused.
 */
import { TwofoldError } from '../errors.ts';

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

/**
 * Writes into one growing buffer: an encoding made of many small arrays costs five times as much, and
 * every audited request pays it.
 */
class CborWriter {
  #buffer = new Uint8Array(512);
  #view = new DataView(this.#buffer.buffer);
  #length = 0;

  get bytes(): Uint8Array {
    return this.#buffer.slice(0, this.#length);
  }

  /** Begins anew; answers the size of the buffer. */
  reset(): number {
    this.#length = 0;
    return this.#buffer.length;
  }

  item(value: CborValue): void {
    if (value === null) this.#byte(NULL);
    else if (typeof value === 'boolean') this.#byte(value ? TRUE : FALSE);
    else if (typeof value === 'number' || typeof value === 'bigint') this.#integer(value);
    else if (typeof value === 'string') this.#text(value);
    else if (typeof value === 'object') this.#compound(value);
    else throw new TypeError(`CBOR does not take ${typeof value}`);
  }

  #byte(value: number): void {
    this.#room(1);
    this.#buffer[this.#length] = value;
    this.#length += 1;
  }

  /** Initial byte and argument, in the shortest of the five forms. */
  #head(major: number, argument: number): void {
    if (argument < 24) {
      this.#byte(major | argument);
      return;
    }
    const width = argument <= 0xff ? 1 : argument <= 0xffff ? 2 : argument <= 0xffff_ffff ? 4 : 8;
    this.#byte(major | (24 + Math.log2(width)));
    this.#room(width);
    if (width === 1) this.#view.setUint8(this.#length, argument);
    else if (width === 2) this.#view.setUint16(this.#length, argument);
    else if (width === 4) this.#view.setUint32(this.#length, argument);
    else this.#view.setBigUint64(this.#length, BigInt(argument));
    this.#length += width;
  }

  #integer(value: number | bigint): void {
    if (typeof value === 'bigint') {
      this.#bigInteger(value);
      return;
    }
    if (!Number.isSafeInteger(value)) {
      throw new TypeError('CBOR takes safe integers only; use bigint');
    }
    if (value < 0) this.#head(NEGATIVE, -1 - value);
    else this.#head(UNSIGNED, value);
  }

  #bigInteger(value: bigint): void {
    const major = value < 0n ? NEGATIVE : UNSIGNED;
    const argument = value < 0n ? -1n - value : value;
    if (argument > MAX_UINT64) throw new TypeError('the integer does not fit CBOR');
    if (argument <= Number.MAX_SAFE_INTEGER) {
      this.#head(major, Number(argument));
      return;
    }
    this.#byte(major | 27);
    this.#room(8);
    this.#view.setBigUint64(this.#length, argument);
    this.#length += 8;
  }

  #text(value: string): void {
    if (value.length <= SHORT && this.#ascii(value)) return;
    if (!value.isWellFormed()) throw new TypeError('the string holds a lone surrogate');
    const length = Buffer.byteLength(value);
    this.#head(TEXT, length);
    this.#room(length);
    ENCODER.encodeInto(value, this.#buffer.subarray(this.#length));
    this.#length += length;
  }

  /** A short text a byte at a time, which most are; false, and nothing written, for any other character. */
  #ascii(value: string): boolean {
    const begun = this.#length;
    this.#head(TEXT, value.length);
    this.#room(value.length);
    for (let index = 0; index < value.length; index += 1) {
      const code = value.charCodeAt(index);
      if (code > 0x7f) {
        this.#length = begun;
        return false;
      }
      this.#buffer[this.#length + index] = code;
    }
    this.#length += value.length;
    return true;
  }

  #raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #compound(value: Exclude<CborValue, number | bigint | string | boolean | null>): void {
    if (value instanceof Uint8Array) {
      this.#head(BYTES, value.length);
      this.#raw(value);
    } else if (Array.isArray(value)) {
      const items: readonly CborValue[] = value;
      this.#head(ARRAY, items.length);
      for (const item of items) this.item(item);
    } else {
      this.#map(entriesOf(value as Exclude<typeof value, readonly CborValue[]>));
    }
  }

  #map(entries: readonly (readonly [CborKey, CborValue])[]): void {
    const pairs = entries.map(([key, value]) => [encodeCbor(key), value] as const);
    pairs.sort(([a], [b]) => Buffer.compare(a, b));
    this.#head(MAP, pairs.length);
    for (const [index, [key, value]] of pairs.entries()) {
      const previous = pairs[index - 1];
      if (previous !== undefined && Buffer.compare(previous[0], key) === 0) {
        throw new TypeError('the map holds a key twice');
      }
      this.#raw(key);
      this.item(value);
    }
  }

  #room(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#buffer.length) return;
    const larger = new Uint8Array(Math.max(needed, 2 * this.#buffer.length));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
    this.#view = new DataView(larger.buffer);
  }
}

const ENCODER = new TextEncoder();
/** Longer texts are encoded faster by the runtime. */
const SHORT = 64;

function entriesOf(
  value: ReadonlyMap<CborKey, CborValue> | { readonly [name: string]: CborValue },
): readonly (readonly [CborKey, CborValue])[] {
  if (value instanceof Map) return [...(value as ReadonlyMap<CborKey, CborValue>)];
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new TypeError('CBOR takes plain objects only');
  }
  return Object.entries(value as { readonly [name: string]: CborValue });
}

/** Kept between encodings, each of which would else pay for a buffer; no larger one stays. */
const LARGEST_KEPT = 65_536;
let idle: CborWriter | null = null;

/** @throws TypeError for a value outside the model above (a programming error) */
export function encodeCbor(value: CborValue): Uint8Array {
  // Names of maps are encoded within an encoding.
  const writer = idle ?? new CborWriter();
  idle = null;
  try {
    writer.item(value);
    return writer.bytes;
  } finally {
    if (writer.reset() <= LARGEST_KEPT) idle = writer;
  }
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
