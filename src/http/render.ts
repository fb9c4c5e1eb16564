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

class JsonWriter {
  readonly secrets: Part[] = [];
  text = '';

  value(value: unknown): void {
    if (typeof value === 'string') this.text += JSON.stringify(value);
    else if (typeof value !== 'object' || value === null) this.text += String(value);
    else if (Array.isArray(value)) this.#array(value);
    else if (!this.#leaf(value)) this.#object(value);
  }

  #leaf(value: object): boolean {
    if (value instanceof SecretBytes) {
      this.secrets.push(`${this.text}"`, value);
      this.text = '"';
    } else if (value instanceof Uint8Array) this.text += `"${viewOf(value).toString('base64')}"`;
    else if (value instanceof EnvelopeBytes) this.text += `"${value.text}"`;
    else if (value instanceof Date) this.text += `"${value.toISOString()}"`;
    else return false;
    return true;
  }

  #array(values: readonly unknown[]): void {
    let separator = '[';
    for (const value of values) {
      this.text += separator;
      this.value(value);
      separator = ',';
    }
    this.text += values.length === 0 ? '[]' : ']';
  }

  #object(object: object): void {
    let separator = '{';
    for (const [name, value] of Object.entries(object) as [string, unknown][]) {
      if (value === undefined) continue;
      this.text += `${separator}${JSON.stringify(name)}:`;
      this.value(value);
      separator = ',';
    }
    this.text += separator === '{' ? '{}' : '}';
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
  if (writer.secrets.length === 0) return { bytes: writer.text, secret: false };
  return { bytes: join([...writer.secrets, writer.text]), secret: true };
}

/** JSON that is kept (idempotency): nothing in it may be secret. */
export function renderPublicJson(value: unknown): string {
  const writer = new JsonWriter();
  writer.value(value);
  if (writer.secrets.length > 0) throw new TypeError('a kept answer holds a secret');
  return writer.text;
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
