/**
 * The values that the API's objects are made of: names, versions, times, bytes.
 *
 * Inputs are strict: what is not canonical is refused with the code that `fail` attaches, and no
 * message repeats what the caller sent. Byte inputs come as the text of a JSON string, as `RawText`
 * (a JSON string kept in its buffer because it holds a secret), or as bytes (an octet-stream body),
 * and go on as bytes. Outputs describe what leaves; they are not run in production.
 */
import { z } from 'zod';

import { NAME } from '../name.ts';
import { readBase64 } from './base64.ts';
import type { ErrorCode } from '../errors.ts';

/** A JSON string that was never made a JavaScript string; `bytes` is its unescaped UTF-8. */
export class RawText {
  readonly bytes: Uint8Array;
  #decoded: Uint8Array | undefined;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** What canonical base64 in it says, remembered so that `wipe` reaches it. */
  decodeBase64(): Uint8Array | undefined {
    this.#decoded ??= readBase64(this.bytes);
    return this.#decoded;
  }

  /** Overwrites the text and what was decoded from it. */
  wipe(): void {
    this.bytes.fill(0);
    this.#decoded?.fill(0);
  }
}

/** Adds an issue that maps to `code`; the value itself stays out of it. */
export function fail(ctx: z.core.ParsePayload, code: ErrorCode, message: string): never {
  ctx.issues.push({ code: 'custom', params: { code }, message, input: undefined });
  return z.NEVER;
}

const BASE64_ADVICE =
  'must be canonical base64: the standard alphabet (A-Z a-z 0-9 + /) with padding and no line ' +
  'breaks, as `base64 -w0` or `openssl base64 -A` write it';

function bytesOf(value: unknown): Uint8Array | undefined {
  if (value instanceof RawText) return value.decodeBase64();
  if (value instanceof Uint8Array) return value;
  return typeof value === 'string' ? readBase64(Buffer.from(value)) : undefined;
}

function isText(value: unknown): boolean {
  return typeof value === 'string' || value instanceof RawText || value instanceof Uint8Array;
}

interface ByteBounds {
  readonly min?: number;
  readonly max: number;
  readonly description: string;
}

function bytes({ min = 0, max, description }: ByteBounds, sensitive: boolean) {
  return z
    .unknown()
    .transform((value, ctx): Uint8Array => {
      if (!isText(value)) return fail(ctx, 'invalid_value', 'must be a base64 string');
      const decoded = bytesOf(value);
      if (decoded === undefined) return fail(ctx, 'invalid_base64', BASE64_ADVICE);
      if (decoded.length >= min && decoded.length <= max) return decoded;
      const wanted = min === max ? String(max) : `${min} to ${max}`;
      return fail(ctx, 'invalid_value', `must be ${wanted} bytes long`);
    })
    .meta({
      description,
      ...(sensitive ? { 'x-sensitive': true } : {}),
      override: { type: 'string', contentEncoding: 'base64' },
    });
}

/** Bytes that may be shown and logged. */
export const publicBytes = (bounds: ByteBounds) => bytes(bounds, false);

/** Bytes that may be in no log, trace, metric or error; the caller of the schema wipes them. */
export const secretBytes = (bounds: ByteBounds) => bytes(bounds, true);

/** Printable ASCII that redaction must remove, such as a JWS, whose payload may be secret. */
export const secretText = ({ max, description }: Omit<ByteBounds, 'min'>) =>
  z
    .unknown()
    .transform((value, ctx): string => {
      const text = value instanceof RawText ? Buffer.from(value.bytes).toString('latin1') : value;
      if (typeof text === 'string' && text.length <= max && /^[\x21-\x7e]+$/.test(text))
        return text;
      return fail(ctx, 'invalid_value', `must be 1 to ${max} visible ASCII characters`);
    })
    .meta({ description, 'x-sensitive': true, override: { type: 'string' } });

/** Base64 in an answer. */
export const base64 = (description: string) =>
  z.string().meta({ description, contentEncoding: 'base64' });

/** Base64 in an answer that redaction must remove. */
export const secretBase64 = (description: string) =>
  z.string().meta({ description, contentEncoding: 'base64', 'x-sensitive': true });

/** Largest plaintext of one wrap, bytes. */
export const MAX_PLAINTEXT = 65_536;
/** Largest message that is signed or MACed in one request, bytes; larger ones are sent as digests. */
export const MAX_MESSAGE = 1_048_576;
/** Largest `aad`, bytes. */
export const MAX_AAD = 65_536;
/** Header, encapsulation and tag of any suite stay below this many bytes. */
const MAX_ENVELOPE = MAX_PLAINTEXT + 4096;

function envelopeBytes(value: string): Uint8Array | undefined {
  if (!value.startsWith(NAME.envelopeText)) return undefined;
  const text = value.slice(NAME.envelopeText.length);
  const decoded = Buffer.from(text, 'base64url');
  return decoded.toString('base64url') === text ? decoded : undefined;
}

/** A ciphertext: the text form in JSON, the binary form in an octet-stream body. */
export const envelope = z
  .unknown()
  .transform((value, ctx): Uint8Array => {
    const decoded = typeof value === 'string' ? envelopeBytes(value) : value;
    if (!(decoded instanceof Uint8Array)) {
      const form = `must be "${NAME.envelopeText}" and canonical unpadded base64url`;
      return fail(ctx, 'invalid_envelope', form);
    }
    if (decoded.length <= MAX_ENVELOPE) return decoded;
    return fail(ctx, 'invalid_envelope', `must be at most ${MAX_ENVELOPE} bytes long`);
  })
  .meta({
    description: `A ciphertext in its text form: \`${NAME.envelopeText}\` and unpadded base64url.`,
    override: {
      type: 'string',
      pattern: `^${NAME.envelopeText.replace('.', '\\.')}[A-Za-z0-9_-]+$`,
    },
  });

/** The text form in an answer. */
export const envelopeText = z.string().meta({
  description: `The ciphertext: \`${NAME.envelopeText}\` and unpadded base64url of the envelope.`,
});

const NAME_PATTERN = /^[a-z0-9][a-z0-9._-]{0,127}$/;

/** The forms in which a UUID may be written (RFC 9562, and PostgreSQL's readings of it). */
function parsesAsUuid(name: string): boolean {
  return /^(?:-*[0-9a-f]){32}-*$/.test(name);
}

/** The name of a new key; never one that could be read as a UUID. */
export const keyName = z
  .string()
  .regex(NAME_PATTERN, 'must be 1 to 128 of a-z 0-9 . _ - and begin with a letter or digit')
  .refine((name) => !parsesAsUuid(name), 'must not read as a UUID')
  .meta({ description: 'Unique in its namespace and never used again after destruction.' });

const UUID_TEXT = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export const isUuid = (text: string): boolean => UUID_TEXT.test(text);

/** A reference as it is looked up: a UUID reads the same in either case (RFC 9562), a name does not. */
export const canonicalReference = (text: string): string =>
  UUID_TEXT.test(text) ? text.toLowerCase() : text;

/** A key as a path names it: by name or by UUID. Not checked here: an impossible one does not exist. */
export const keyReference = z
  .string()
  .overwrite(canonicalReference)
  .meta({ description: 'Name or UUID of the key.', examples: ['model-weights'] });

/** Whether a text could name a key at all. */
export const couldNameKey = (text: string): boolean => NAME_PATTERN.test(text);

export const namespaceName = z
  .string()
  .regex(NAME_PATTERN, 'must be a namespace name')
  .meta({ description: 'Namespace; `default` when the header is absent.' });

export const uuid = z.string().meta({ description: 'UUID, lower case.', format: 'uuid' });

export const keyVersion = z
  .int()
  .min(1)
  .max(0xffff_ffff)
  .meta({ description: 'Version of the key, counted from 1.' });

/** A version as path or query text. */
export const keyVersionText = z
  .string()
  .regex(/^[1-9][0-9]{0,9}$/, 'must be a version number')
  .transform(Number)
  .pipe(z.int().max(0xffff_ffff))
  .meta({ description: 'Version of the key, counted from 1.', override: { type: 'integer' } });

export const suiteId = z
  .string()
  .max(64)
  .meta({ description: 'Suite id, as `/v1/suites` lists it.', examples: ['MLKEM768-P256'] });

export const time = z.string().meta({ description: 'RFC 3339, UTC.', format: 'date-time' });

/** A time that a request names; whether it is to come is checked where the clock is. */
export const comingTime = z.iso
  .datetime({ offset: true })
  .max(40)
  .meta({ description: 'RFC 3339 time to come, at most 30 years away.' });

// Control characters break terminals and logs, NUL breaks databases, lone surrogates have no UTF-8.
const isPrintable = (text: string) => text.isWellFormed() && !/\p{Cc}/u.test(text);

/** Words of a person: no control characters. `max` counts UTF-16 units. */
export const text = (max: number, description: string) =>
  z
    .string()
    .min(1)
    .max(max)
    .refine(isPrintable, 'must not hold control characters')
    .meta({ description });

/** The document that defines a suite's bytes. */
export const standardReference = z.object({
  document: z.string(),
  revision: z.string(),
  status: z.enum(['final', 'draft', 'round-3', 'own']).meta({
    description: '`own`: a construction of this project, specified in ARCHITECTURE.md.',
  }),
});
