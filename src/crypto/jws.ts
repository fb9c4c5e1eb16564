/**
 * JSON Web Signatures (RFC 7515) around a signature that is made or verified elsewhere: headers,
 * signing input, the compact and JSON forms, and a strict reader of the compact form.
 *
 * The algorithm is the key's, never the header's choice (RFC 8725 section 3.1): a header that names
 * another one is refused, `none` and HMAC over a public key among them. Members that ask for more
 * than this (`crit`, `b64`) are refused; keys and certificates in a header are not looked at.
 */
import { isUtf8 } from 'node:buffer';

import { TwofoldError } from '../errors.ts';
import { decodeBase64Url, encodeBase64Url } from './base64.ts';
import { utf8 } from './bytes.ts';
import { decodeEcdsaSignature, encodeEcdsaSignature } from './ecdsa.ts';
import type { KeyEncoding, SignatureForm } from './key-encoding.ts';

export interface JwsHeaderOptions {
  readonly kid: string;
  /** Media type of the whole (RFC 7515 section 4.1.9), e.g. `JWT`. */
  readonly typ?: string;
}

/** What is signed: the ASCII of `protected.payload`. */
export interface UnsignedJws {
  /** Unpadded base64url of the header. */
  readonly protectedHeader: string;
  /** Unpadded base64url. */
  readonly payload: string;
  readonly signingInput: Uint8Array;
}

/** RFC 7515 section 7.2.2. */
export interface FlattenedJws {
  readonly payload: string;
  readonly protected: string;
  readonly signature: string;
}

/** RFC 7515 section 7.2.1. */
export interface GeneralJws {
  readonly payload: string;
  readonly signatures: readonly { readonly protected: string; readonly signature: string }[];
}

export interface ParsedJws {
  readonly header: Readonly<Record<string, unknown>>;
  readonly kid: string | null;
  readonly payload: Uint8Array;
  readonly signingInput: Uint8Array;
  /** As the suite's signer has it; null when no signature of the algorithm looks like that. */
  readonly signature: Uint8Array | null;
}

/** Longest header in characters of base64url: room for a chain of certificates in `x5c`. */
const MAX_HEADER_LENGTH = 65_536;

/**
 * A signature of the suite (DER for ECDSA) as JOSE has it (r ‖ s).
 * @throws RangeError when the signer gave no valid signature
 */
export function toJoseSignature(form: SignatureForm, signature: Uint8Array): Uint8Array {
  if (form.joseCurve === null) return signature;
  const raw = decodeEcdsaSignature(form.joseCurve, signature);
  if (raw === undefined) throw new RangeError('the signer gave no valid DER of r and s');
  return raw;
}

/** The inverse; undefined when r ‖ s is none. */
export function fromJoseSignature(
  form: SignatureForm,
  signature: Uint8Array,
): Uint8Array | undefined {
  if (form.joseCurve === null) return signature;
  try {
    return encodeEcdsaSignature(form.joseCurve, signature);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Header and signing input, or null where JOSE has no name (`unavailable.jose` says why). */
export function prepareJws(
  encoding: KeyEncoding,
  { kid, typ }: JwsHeaderOptions,
  payload: Uint8Array,
): UnsignedJws | null {
  const alg = encoding.signature?.jose ?? null;
  if (alg === null) return null;
  const header = JSON.stringify({ alg, kid, ...(typ === undefined ? {} : { typ }) });
  const [protectedHeader, body] = [encodeBase64Url(utf8(header)), encodeBase64Url(payload)];
  return { protectedHeader, payload: body, signingInput: utf8(`${protectedHeader}.${body}`) };
}

/** @throws RangeError when the signer gave no valid signature */
export function flattenedJws(
  form: SignatureForm,
  { payload, protectedHeader }: UnsignedJws,
  signature: Uint8Array,
): FlattenedJws {
  const text = encodeBase64Url(toJoseSignature(form, signature));
  return { payload, protected: protectedHeader, signature: text };
}

/** @throws RangeError when the signer gave no valid signature */
export function compactJws(
  form: SignatureForm,
  unsigned: UnsignedJws,
  signature: Uint8Array,
): string {
  const jws = flattenedJws(form, unsigned, signature);
  return [jws.protected, jws.payload, jws.signature].join('.');
}

/** @throws RangeError when the signer gave no valid signature */
export function generalJws(
  form: SignatureForm,
  unsigned: UnsignedJws,
  signature: Uint8Array,
): GeneralJws {
  const { payload, ...rest } = flattenedJws(form, unsigned, signature);
  return { payload, signatures: [rest] };
}

function refuse(what: string): never {
  throw new TwofoldError('invalid_value', `The JWS is not accepted: ${what}.`);
}

/**
 * The parts of a compact JWS that claims to be signed by a key of this algorithm. The signature is
 * not verified here.
 * @throws TwofoldError invalid_value
 */
export function parseCompactJws(encoding: KeyEncoding, text: string): ParsedJws {
  const [protectedHeader, body, signature, ...rest] = text.split('.', 4);
  if (protectedHeader === undefined || body === undefined || signature === undefined) {
    return refuse('it does not have three parts');
  }
  if (rest.length > 0) return refuse('it has more than three parts');
  const form = encoding.signature ?? refuse('the key does not sign');
  const header = parseHeader(protectedHeader);
  checkHeader(encoding, form, header);
  const raw = bytesOf(signature, 'signature');
  return {
    header,
    kid: typeof header['kid'] === 'string' ? header['kid'] : null,
    payload: bytesOf(body, 'payload'),
    signingInput: utf8(`${protectedHeader}.${body}`),
    signature: fromJoseSignature(form, raw) ?? null,
  };
}

/**
 * The `kid` of a compact JWS, before it is known which version, and so which algorithm, it is for.
 * @throws TwofoldError invalid_value for a header that `parseCompactJws` would not read either
 */
export function readKid(text: string): string | null {
  const kid = parseHeader(text.slice(0, Math.max(0, text.indexOf('.'))))['kid'];
  return typeof kid === 'string' ? kid : null;
}

function bytesOf(text: string, part: string): Uint8Array {
  return decodeBase64Url(text) ?? refuse(`its ${part} is not unpadded base64url`);
}

function checkHeader(
  encoding: KeyEncoding,
  form: SignatureForm,
  header: Readonly<Record<string, unknown>>,
): void {
  const isOfKey = [form.jose, ...form.joseAlsoReads].some(
    (alg) => alg !== null && alg === header['alg'],
  );
  if (form.jose === null || !isOfKey) refuse(`its alg is not that of ${encoding.algorithm}`);
  // No extension is understood here, and none may be ignored (section 4.1.11).
  if ('crit' in header) refuse('its header has critical members');
  if ('b64' in header) refuse('its payload is not base64url (RFC 7797)');
  if ('kid' in header && typeof header['kid'] !== 'string') refuse('its kid is not a string');
}

/** A JSON object in UTF-8 without duplicate names at any depth (section 4). */
function parseHeader(text: string): Readonly<Record<string, unknown>> {
  if (text.length > MAX_HEADER_LENGTH) return refuse('its header is too long');
  const bytes = bytesOf(text, 'header');
  if (!isUtf8(bytes)) return refuse('its header is not UTF-8');
  const json = Buffer.from(bytes).toString('utf8');
  const value = parseJson(json);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return refuse('its header is not an object');
  }
  if (countNames(json) !== countMembers(value)) return refuse('its header names a member twice');
  return Object.assign(Object.create(null) as Record<string, unknown>, value);
}

function parseJson(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    if (error instanceof SyntaxError) return refuse('its header is not JSON');
    throw error;
  }
}

const STRING = /"(?:[^"\\]|\\.)*"(\s*:)?/g;

/** Strings before a colon in text that is JSON: the names as they were written. */
function countNames(json: string): number {
  return [...json.matchAll(STRING)].filter(([, colon]) => colon !== undefined).length;
}

/** The names that the parser kept; without recursion, as the depth is the sender's choice. */
function countMembers(root: object): number {
  const pending: object[] = [root];
  let count = 0;
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    const members: readonly unknown[] = Object.values(value);
    if (!Array.isArray(value)) count += members.length;
    for (const member of members) {
      if (typeof member === 'object' && member !== null) pending.push(member);
    }
  }
  return count;
}
