/**
 * A strict JSON reader (RFC 8259) over bytes.
 *
 * Beyond what `JSON.parse` refuses, it refuses duplicate names, the name `__proto__`, lone
 * surrogates, invalid UTF-8 and deep nesting; objects have no prototype. Strings under `rawFields`
 * hold secrets and stay bytes (`RawText`). No message repeats any of the input.
 */
import { isUtf8 } from 'node:buffer';

import { RawText } from '../contract/scalars.ts';
import { TwofoldError } from '../errors.ts';

/** Deepest nesting of arrays and objects; the contract's own bodies need four. */
export const MAX_DEPTH = 16;

/**
 * Most values and names of one document. A full batch of the contract has some 45,000; without a
 * bound, 8 MiB of `0,` would hold the event loop for seconds.
 */
export const MAX_VALUES = 65_536;

export interface ParsedJson {
  readonly value: unknown;
  /** Every secret string found, also outside the contract's places: the caller wipes them. */
  readonly raws: readonly RawText[];
}

/** Secrets are members of the body itself or of a batch's items; deeper, the names are the caller's. */
const SECRET_DEPTHS: ReadonlySet<number> = new Set([1, 3]);

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const NUMBER = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$/;
const LONGEST_NUMBER = 32;
// The escapes of RFC 8259 section 7, by the byte after the backslash.
const ESCAPES: ReadonlyMap<number, number> = new Map(
  ['""', '\\\\', '//', 'b\b', 'f\f', 'n\n', 'r\r', 't\t'].map((pair) => [
    pair.charCodeAt(0),
    pair.charCodeAt(1),
  ]),
);
/** By their first byte. */
const LITERALS: ReadonlyMap<number, readonly [string, unknown]> = new Map([
  [0x74, ['true', true]],
  [0x66, ['false', false]],
  [0x6e, ['null', null]],
]);

class JsonReader {
  readonly raws: RawText[] = [];
  readonly #source: Buffer;
  readonly #rawFields: ReadonlySet<string>;
  readonly #maxValues: number;
  #at = 0;
  #values = 0;
  /** Position of the next backslash; looked up once for many strings. */
  #backslash: number;

  constructor(source: Buffer, rawFields: ReadonlySet<string>, maxValues: number) {
    this.#source = source;
    this.#rawFields = rawFields;
    this.#maxValues = maxValues;
    this.#backslash = this.#find(BACKSLASH, 0);
  }

  document(): unknown {
    const value = this.#value(0, '');
    if (this.#peek() !== undefined) throw this.#malformed('Something follows the value');
    return value;
  }

  #find(byte: number, from: number): number {
    const found = this.#source.indexOf(byte, from);
    return found < 0 ? Infinity : found;
  }

  #malformed(what: string): TwofoldError {
    return new TwofoldError('malformed_json', `${what}, at byte ${this.#at}.`);
  }

  /** The next byte that is not white space, which it moves to. */
  #peek(): number | undefined {
    for (;;) {
      const byte = this.#source[this.#at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte;
      this.#at += 1;
    }
  }

  #take(character: string): boolean {
    if (this.#peek() !== character.charCodeAt(0)) return false;
    this.#at += 1;
    return true;
  }

  #value(depth: number, field: string): unknown {
    this.#values += 1;
    if (this.#values > this.#maxValues) throw this.#malformed('The document has too many values');
    if (depth > MAX_DEPTH) throw this.#malformed('The nesting is too deep');
    if (this.#take('{')) return this.#object(depth + 1);
    if (this.#take('[')) return this.#array(depth + 1, field);
    if (this.#take('"'))
      return this.#string(SECRET_DEPTHS.has(depth) && this.#rawFields.has(field));
    return this.#literal() ?? this.#number();
  }

  #object(depth: number): unknown {
    const object = Object.create(null) as Record<string, unknown>;
    if (this.#take('}')) return object;
    do {
      const name = this.#name();
      if (name in object) throw this.#malformed('An object has the same name twice');
      object[name] = this.#unwrap(this.#value(depth, name));
    } while (this.#take(','));
    if (!this.#take('}')) throw this.#malformed('An object is not closed');
    return object;
  }

  #name(): string {
    if (!this.#take('"')) throw this.#malformed('A name is missing');
    const name = this.#string(false) as string;
    if (!this.#take(':')) throw this.#malformed('A colon is missing');
    if (name !== '__proto__') return name;
    throw new TwofoldError('unknown_field', 'No object here has the name __proto__.');
  }

  #array(depth: number, field: string): unknown {
    const array: unknown[] = [];
    if (this.#take(']')) return array;
    do array.push(this.#unwrap(this.#value(depth, field)));
    while (this.#take(','));
    if (!this.#take(']')) throw this.#malformed('An array is not closed');
    return array;
  }

  /** `null` travels boxed, so that `??` can tell it from "no literal here". */
  #unwrap(value: unknown): unknown {
    return value === NULL ? null : value;
  }

  #literal(): unknown {
    const literal = LITERALS.get(this.#source[this.#at] ?? 0);
    if (literal === undefined) return undefined;
    const [text, value] = literal;
    if (this.#source.toString('latin1', this.#at, this.#at + text.length) !== text)
      return undefined;
    this.#at += text.length;
    return value === null ? NULL : value;
  }

  #number(): number {
    const text = /^[-+.0-9eE]*/.exec(
      this.#source.toString('latin1', this.#at, this.#at + LONGEST_NUMBER + 1),
    );
    const digits = text?.[0] ?? '';
    const number = Number(digits);
    if (digits.length > LONGEST_NUMBER || !NUMBER.test(digits) || !Number.isFinite(number)) {
      throw this.#malformed('A value is not JSON');
    }
    this.#at += digits.length;
    return number;
  }

  #string(raw: boolean): unknown {
    const start = this.#at;
    const end = this.#find(QUOTE, start);
    if (end === Infinity) throw this.#malformed('A string is not closed');
    if (this.#backslash < start) this.#backslash = this.#find(BACKSLASH, start);
    const plain = end < this.#backslash;
    if (!plain) return raw ? this.#keep(this.#unescape()) : this.#unescape().toString('utf8');
    this.#at = end + 1;
    return raw ? this.#keep(this.#source.subarray(start, end)) : this.#plainText(start, end);
  }

  #keep(bytes: Buffer): RawText {
    const raw = new RawText(bytes);
    this.raws.push(raw);
    return raw;
  }

  /** With escapes, control characters are refused on the way. */
  #plainText(start: number, end: number): string {
    const text = this.#source.toString('utf8', start, end);
    if (/[\u0000-\u001f]/.test(text)) {
      throw this.#malformed('A string holds a control character');
    }
    return text;
  }

  /** Position of the quote that closes a string with escapes. */
  #closing(): number {
    let end = this.#at;
    while (end < this.#source.length && this.#source[end] !== QUOTE) {
      end += this.#source[end] === BACKSLASH ? 2 : 1;
    }
    if (end >= this.#source.length) throw this.#malformed('A string is not closed');
    return end;
  }

  #unescape(): Buffer {
    const end = this.#closing();
    // An escape never says more bytes than it takes.
    const target = Buffer.allocUnsafeSlow(end - this.#at);
    try {
      return target.subarray(0, this.#unescapeTo(target, end));
    } catch (error) {
      // It may be a secret, of which the caller learns only when it is whole.
      target.fill(0);
      throw error;
    }
  }

  #unescapeTo(target: Buffer, end: number): number {
    let length = 0;
    while (this.#at < end) {
      const byte = this.#source[this.#at] ?? 0;
      this.#at += 1;
      if (byte < 0x20) throw this.#malformed('A string holds a control character');
      if (byte === BACKSLASH) length += this.#escape(target, length);
      else target[length++] = byte;
    }
    this.#at = end + 1;
    return length;
  }

  /** Writes what the escape at the position says; returns its number of bytes. */
  #escape(target: Buffer, at: number): number {
    const byte = this.#source[this.#at] ?? 0;
    this.#at += 1;
    const simple = ESCAPES.get(byte);
    if (simple !== undefined) return target.writeUInt8(simple, at) - at;
    if (byte !== 0x75) throw this.#malformed('An escape is not known');
    let text = String.fromCharCode(this.#codeUnit());
    if (!text.isWellFormed() && this.#source.toString('latin1', this.#at, this.#at + 2) === '\\u') {
      this.#at += 2;
      text += String.fromCharCode(this.#codeUnit());
    }
    if (!text.isWellFormed()) throw this.#malformed('A string holds a lone surrogate');
    return target.write(text, at, 'utf8');
  }

  #codeUnit(): number {
    const hex = this.#source.toString('latin1', this.#at, this.#at + 4);
    if (!/^[0-9a-fA-F]{4}$/.test(hex)) throw this.#malformed('An escape is not known');
    this.#at += 4;
    return Number.parseInt(hex, 16);
  }
}

const NULL = Symbol('null');

/**
 * Reads one JSON value.
 * @param rawFields names whose string values stay bytes, in the body and in the items of a batch
 * @throws TwofoldError malformed_json, unknown_field; secrets read so far were wiped
 */
export function parseJson(
  source: Buffer,
  rawFields: ReadonlySet<string>,
  maxValues = MAX_VALUES,
): ParsedJson {
  if (!isUtf8(source)) throw new TwofoldError('malformed_json', 'The body is not valid UTF-8.');
  const reader = new JsonReader(source, rawFields, maxValues);
  try {
    const value = reader.document();
    return { value: value === NULL ? null : value, raws: reader.raws };
  } catch (error) {
    for (const raw of reader.raws) raw.wipe();
    throw error;
  }
}
