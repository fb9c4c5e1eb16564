/**
 * Answers as bytes. Handlers give raw values; their text forms are made here: base64 for bytes, the
 * `tf1.` text for envelopes, RFC 3339 for times. Secrets are written as base64 straight into the
 * buffer that is sent, which is wiped afterwards, and never become strings.
 */
import { base64Length, writeBase64 } from '../contract/base64.ts';
import { SecretBytes } from '../crypto/secret.ts';
import { NAME } from '../name.ts';

/** An envelope: binary in byte answers, `tf1.` text in JSON and text answers. */
export class EnvelopeBytes {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get text(): string {
    return NAME.envelopeText + viewOf(this.bytes).toString('base64url');
  }
}

type Leaf = Uint8Array | SecretBytes | EnvelopeBytes | Date;

/** The contract's answer, with raw values in the places of their text forms. */
export type Answerable<T> = T extends string
  ? T | Leaf
  : T extends readonly (infer E)[]
    ? readonly Answerable<E>[]
    : T extends object
      ? { readonly [K in keyof T]: Answerable<T[K]> }
      : T;

/**
 * What to send. Text goes out in one write with its head; secret bytes are a buffer, which is wiped
 * when it has been written.
 */
export type Rendered =
  | { readonly bytes: string | Buffer; readonly secret: false }
  | { readonly bytes: Buffer; readonly secret: true };

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

type Part = string | SecretBytes;

const MAX_QUOTED = 64;

/** Texts and secrets in the order in which they are written. */
class JsonWriter {
  readonly parts: Part[] = [];
  /** What the text since the last secret consists of: joined once, where strings would be built up. */
  #pieces: string[] = [];
  /** Names, and values that the results of a batch share, as they are written. */
  readonly #quoted = new Map<string, string>();

  value(value: unknown): void {
    if (typeof value === 'string') this.#write(this.#quote(value));
    else if (typeof value !== 'object' || value === null) this.#write(String(value));
    else if (Array.isArray(value)) this.#array(value);
    else if (!this.#leaf(value)) this.#object(value);
  }

  /** The text since the last secret. */
  end(): string {
    const text = this.#pieces.join('');
    this.#pieces = [];
    return text;
  }

  #write(piece: string): void {
    this.#pieces.push(piece);
  }

  #leaf(value: object): boolean {
    if (value instanceof SecretBytes) {
      this.#write('"');
      this.parts.push(this.end(), value);
      this.#write('"');
    } else if (value instanceof Uint8Array) this.#write(`"${viewOf(value).toString('base64')}"`);
    else if (value instanceof EnvelopeBytes) this.#write(`"${value.text}"`);
    else if (value instanceof Date) this.#write(`"${value.toISOString()}"`);
    else return false;
    return true;
  }

  #array(values: readonly unknown[]): void {
    let separator = '[';
    for (const value of values) {
      this.#write(separator);
      this.value(value);
      separator = ',';
    }
    this.#write(values.length === 0 ? '[]' : ']');
  }

  #object(object: object): void {
    const members = object as Readonly<Record<string, unknown>>;
    let separator = '{';
    for (const name of Object.keys(members)) {
      const value = members[name];
      if (value === undefined) continue;
      this.#pieces.push(separator, this.#quote(name), ':');
      this.value(value);
      separator = ',';
    }
    this.#write(separator === '{' ? '{}' : '}');
  }

  #quote(text: string): string {
    const known = this.#quoted.get(text);
    if (known !== undefined) return known;
    const quoted = JSON.stringify(text);
    if (this.#quoted.size < MAX_QUOTED) this.#quoted.set(text, quoted);
    return quoted;
  }
}

const lengthOf = (part: Part): number =>
  typeof part === 'string' ? Buffer.byteLength(part) : base64Length(part.length);

function join(parts: readonly Part[]): Buffer {
  const bytes = Buffer.allocUnsafe(parts.reduce((sum, part) => sum + lengthOf(part), 0));
  let at = 0;
  for (const part of parts) {
    if (typeof part === 'string') at += bytes.write(part, at);
    else at = writeBase64(bytes, at, part.reveal());
  }
  return bytes;
}

/** JSON of an answer, in the order of its members; members that are undefined are left out. */
export function renderJson(value: unknown): Rendered {
  const writer = new JsonWriter();
  writer.value(value);
  const rest = writer.end();
  if (writer.parts.length === 0) return { bytes: rest, secret: false };
  return { bytes: join([...writer.parts, rest]), secret: true };
}

/** JSON that is kept (idempotency): nothing in it may be secret. */
export function renderPublicJson(value: unknown): string {
  const writer = new JsonWriter();
  writer.value(value);
  if (writer.parts.length > 0) throw new TypeError('a kept answer holds a secret');
  return writer.end();
}

/** The one member that a byte answer consists of. */
export function renderBytes(value: unknown, asText: boolean): Rendered {
  if (value instanceof SecretBytes) {
    return { bytes: Buffer.from(Uint8Array.from(value.reveal()).buffer), secret: true };
  }
  if (value instanceof EnvelopeBytes) {
    return { bytes: asText ? value.text : viewOf(value.bytes), secret: false };
  }
  if (value instanceof Uint8Array) return { bytes: viewOf(value), secret: false };
  if (typeof value === 'string') return { bytes: value, secret: false };
  throw new TypeError('a byte answer has no bytes');
}

/** A member of an answer as a header value; undefined for null. */
export function renderHeader(value: unknown): string | undefined {
  if (value === null || value === undefined) return undefined;
  if (value instanceof EnvelopeBytes) return value.text;
  if (value instanceof Date) return value.toISOString();
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
    return String(value);
  }
  throw new TypeError('a member cannot be a header');
}
