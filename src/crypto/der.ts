/**
 * DER (X.690 section 10), the part that keys, signatures, requests and certificates need: one byte
 * string per value, so that what was read comes back the same when it is written.
 *
 * Tags are one byte. The reader refuses what BER allows besides: indefinite and padded lengths,
 * padded INTEGERs and arcs, unused bits, constructed strings; and it is bounded in size and depth.
 */
import { TwofoldError } from '../errors.ts';
import { concatBytes } from './bytes.ts';

/** Identifier bytes; SEQUENCE and SET are constructed. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** The identifier byte of `[number]`, for numbers below 31. */
export function contextTag(number: number, form: 'primitive' | 'constructed'): number {
  return (form === 'primitive' ? 0x80 : 0xa0) | number;
}

/** Longest input of a reader in bytes: a certificate of SLH-DSA-256f is 50 kB. */
export const MAX_DER_LENGTH = 262_144;
/** Deepest nesting: a certificate's names have 6 levels. */
const MAX_DEPTH = 16;
const MAX_ARC = Number.MAX_SAFE_INTEGER;

/** Definite length, shortest form (section 10.1). */
function lengthBytes(length: number): Uint8Array {
  if (length < 0x80) return Uint8Array.of(length);
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return Uint8Array.of(0x80 | bytes.length, ...bytes);
}

/** One value; the content is the parts joined. */
export function derValue(tag: number, ...content: readonly Uint8Array[]): Uint8Array {
  const length = content.reduce((sum, part) => sum + part.length, 0);
  return concatBytes(Uint8Array.of(tag), lengthBytes(length), ...content);
}

export function derSequence(...elements: readonly Uint8Array[]): Uint8Array {
  return derValue(TAG.sequence, ...elements);
}

/** SET OF: the elements in the order of their encodings (section 11.6). */
export function derSetOf(...elements: readonly Uint8Array[]): Uint8Array {
  return derValue(TAG.set, ...[...elements].sort((a, b) => Buffer.compare(a, b)));
}

/** A non-negative INTEGER from its big-endian bytes, however many leading zeros they have. */
export function derUnsigned(magnitude: Uint8Array): Uint8Array {
  const start = magnitude.findIndex((byte) => byte !== 0);
  const digits = start < 0 ? new Uint8Array(1) : magnitude.subarray(start);
  const sign = (digits[0] ?? 0) & 0x80 ? new Uint8Array(1) : new Uint8Array(0);
  return derValue(TAG.integer, sign, digits);
}

/** A non-negative INTEGER below 256, e.g. a version. */
export function derSmall(value: number): Uint8Array {
  return derUnsigned(Uint8Array.of(value));
}

/** Base 128, high bit on all but the last byte (section 8.19.2). */
function base128(arc: number): number[] {
  const bytes = [arc % 128];
  for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) {
    bytes.unshift(0x80 | (rest % 128));
  }
  return bytes;
}

const DOTTED = /^(?:[01]\.(?:[0-9]|[1-3][0-9])|2\.(?:0|[1-9][0-9]*))(?:\.(?:0|[1-9][0-9]*))*$/;

/** @throws RangeError when `dotted` is no object identifier (a row's mistake, not a caller's) */
export function derObjectIdentifier(dotted: string): Uint8Array {
  const [first = 0, second = 0, ...arcs] = dotted.split('.').map(Number);
  if (!DOTTED.test(dotted) || [second + 80, ...arcs].some((arc) => arc > MAX_ARC)) {
    throw new RangeError('not an object identifier');
  }
  const bytes = [first * 40 + second, ...arcs].flatMap(base128);
  return derValue(TAG.objectIdentifier, Uint8Array.from(bytes));
}

/** A BIT STRING of whole bytes. */
export function derBitString(...content: readonly Uint8Array[]): Uint8Array {
  return derValue(TAG.bitString, new Uint8Array(1), ...content);
}

export function derOctetString(...content: readonly Uint8Array[]): Uint8Array {
  return derValue(TAG.octetString, ...content);
}

export function derNull(): Uint8Array {
  return derValue(TAG.null);
}

/** A value with its identifier and length; both arrays are views of the input. */
export interface DerElement {
  readonly tag: number;
  readonly content: Uint8Array;
  readonly encoded: Uint8Array;
}

function refuse(name: string, what: string): never {
  throw new TwofoldError('invalid_value', `${name} is not valid DER: ${what}.`);
}

/**
 * Reads the values of one constructed content in their order. Every method throws TwofoldError
 * `invalid_value` for what is not there or not DER; the bytes given out are views of the input.
 */
export class DerReader {
  readonly #bytes: Uint8Array;
  readonly #name: string;
  readonly #depth: number;
  #offset = 0;

  /** @param name the field, for messages */
  constructor(bytes: Uint8Array, name: string, depth = 0) {
    if (bytes.length > MAX_DER_LENGTH) refuse(name, `it has over ${MAX_DER_LENGTH} bytes`);
    if (depth > MAX_DEPTH) refuse(name, 'it is nested too deep');
    this.#bytes = bytes;
    this.#name = name;
    this.#depth = depth;
  }

  get atEnd(): boolean {
    return this.#offset === this.#bytes.length;
  }

  /** The identifier of the next value, or undefined at the end. */
  peek(): number | undefined {
    return this.#bytes[this.#offset];
  }

  /** The next value, whatever it is. */
  element(): DerElement {
    const start = this.#offset;
    const tag = this.#byte();
    if ((tag & 0x1f) === 0x1f) return refuse(this.#name, 'a tag has more than one byte');
    const length = this.#length();
    const end = this.#offset + length;
    if (end > this.#bytes.length) return refuse(this.#name, 'a length goes beyond its end');
    const content = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return { tag, content, encoded: this.#bytes.subarray(start, end) };
  }

  /** The content of the next value, which must have this identifier. */
  take(tag: number): Uint8Array {
    if (this.peek() !== tag) refuse(this.#name, 'it has another structure');
    return this.element().content;
  }

  /** The same when the next value has this identifier, else undefined. */
  optional(tag: number): Uint8Array | undefined {
    return this.peek() === tag ? this.element().content : undefined;
  }

  /** A reader of the next value's content; finish it with `end`. */
  enter(tag: number = TAG.sequence): DerReader {
    return new DerReader(this.take(tag), this.#name, this.#depth + 1);
  }

  /** The magnitude of a non-negative INTEGER without leading zeros; zero is one zero byte. */
  unsigned(): Uint8Array {
    const content = this.take(TAG.integer);
    checkInteger(content, this.#name);
    const [first = 0] = content;
    if (first & 0x80) refuse(this.#name, 'an integer is negative');
    return first === 0 && content.length > 1 ? content.subarray(1) : content;
  }

  /** A non-negative INTEGER below 256. */
  small(): number {
    const magnitude = this.unsigned();
    if (magnitude.length > 1) refuse(this.#name, 'a number is too large');
    return magnitude[0] ?? 0;
  }

  /** In dotted form. */
  objectIdentifier(): string {
    return dottedForm(this.take(TAG.objectIdentifier), this.#name);
  }

  /** The bytes of a BIT STRING without unused bits. */
  bitString(): Uint8Array {
    return wholeBytes(this.take(TAG.bitString), this.#name);
  }

  octetString(): Uint8Array {
    return this.take(TAG.octetString);
  }

  /** Nothing may follow what was read. */
  end(): void {
    if (!this.atEnd) refuse(this.#name, 'bytes follow its end');
  }

  #byte(): number {
    const byte = this.#bytes[this.#offset];
    if (byte === undefined) return refuse(this.#name, 'it ends too early');
    this.#offset += 1;
    return byte;
  }

  #length(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    const count = first & 0x7f;
    if (count === 0 || count > 3) return refuse(this.#name, 'a length is indefinite or too large');
    let length = 0;
    for (let index = 0; index < count; index += 1) length = length * 256 + this.#byte();
    if (lengthBytes(length).length !== 1 + count) {
      return refuse(this.#name, 'a length is not in its shortest form');
    }
    return length;
  }
}

function checkInteger(content: Uint8Array, name: string): void {
  const [first, second = 0] = content;
  if (first === undefined) refuse(name, 'an integer has no bytes');
  const padded = content.length > 1 && first === (second & 0x80 ? 0xff : 0x00);
  if (padded) refuse(name, 'an integer is not in its shortest form');
}

function wholeBytes(content: Uint8Array, name: string): Uint8Array {
  if (content[0] !== 0) refuse(name, 'a bit string is not of whole bytes');
  return content.subarray(1);
}

function dottedForm(content: Uint8Array, name: string): string {
  const arcs: number[] = [];
  let arc = 0;
  let open = false;
  for (const byte of content) {
    if (!open && byte === 0x80) refuse(name, 'an object identifier is padded');
    arc = arc * 128 + (byte & 0x7f);
    if (arc > MAX_ARC) refuse(name, 'an object identifier is too large');
    open = (byte & 0x80) !== 0;
    if (open) continue;
    arcs.push(arc);
    arc = 0;
  }
  const [joint, ...rest] = arcs;
  if (open || joint === undefined) return refuse(name, 'an object identifier is cut off');
  const first = Math.min(Math.floor(joint / 40), 2);
  return [first, joint - 40 * first, ...rest].join('.');
}

/**
 * What `read` makes of `bytes`, which must be exactly the values that it takes.
 * @param name the field, for messages
 * @throws TwofoldError invalid_value
 */
export function readDer<T>(bytes: Uint8Array, name: string, read: (reader: DerReader) => T): T {
  const reader = new DerReader(bytes, name);
  const result = read(reader);
  reader.end();
  return result;
}

/**
 * Checks that `bytes` are values in DER to the last level, for structures that are not read field by
 * field. Primitive universal types are checked, other primitives pass as bytes.
 * @throws TwofoldError invalid_value
 */
export function checkDer(bytes: Uint8Array, name: string): void {
  checkValues(new DerReader(bytes, name), name, 0);
}

function checkValues(reader: DerReader, name: string, depth: number): void {
  while (!reader.atEnd) {
    const { tag, content, encoded } = reader.element();
    if ((tag & 0x20) !== 0) checkConstructed(tag, content, name, depth);
    else checkPrimitive(tag, content, encoded, name);
  }
}

function checkConstructed(tag: number, content: Uint8Array, name: string, depth: number): void {
  const universal = (tag & 0xc0) === 0;
  if (universal && tag !== TAG.sequence && tag !== TAG.set) {
    refuse(name, 'a string is in parts');
  }
  checkValues(new DerReader(content, name, depth + 1), name, depth + 1);
}

function checkPrimitive(tag: number, content: Uint8Array, encoded: Uint8Array, name: string): void {
  const single = new DerReader(encoded, name);
  switch (tag) {
    case TAG.sequence & 0x1f:
    case TAG.set & 0x1f:
    case 0:
      return refuse(name, 'a type is in a form that it does not have');
    case TAG.boolean:
      if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) {
        refuse(name, 'a boolean has another value than 00 and ff');
      }
      return;
    case TAG.null:
      if (content.length !== 0) refuse(name, 'a null has content');
      return;
    case TAG.integer: {
      checkInteger(content, name);
      return;
    }
    case TAG.objectIdentifier:
      single.objectIdentifier();
      return;
    case TAG.bitString: {
      checkBits(content, name);
      return;
    }
  }
}

/** Unused bits are zero (section 11.2.1), e.g. those of a key usage. */
function checkBits(content: Uint8Array, name: string): void {
  const [unused, last = 0] = [content[0], content.at(-1)];
  const isValid =
    unused !== undefined &&
    unused < 8 &&
    (content.length > 1 ? (last & ((1 << unused) - 1)) === 0 : unused === 0);
  if (!isValid) refuse(name, 'a bit string has unused bits that are set');
}
