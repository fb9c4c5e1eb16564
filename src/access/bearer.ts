/**
 * The `Authorization` header and the outside of a token (RFC 6750 section 2.1, RFC 7515 section 3.1).
 *
 * Nothing in here trusts what it reads: it only decides what is worth a signature check.
 */
import { decodeBase64Url } from '../crypto/base64.ts';
import { TwofoldError } from '../errors.ts';

/** Longest token in characters; an ML-DSA-87 signature alone takes 6,170. */
export const MAX_TOKEN_LENGTH = 8192;
const MAX_KID_LENGTH = 256;
const SCHEME = 'Bearer ';
const TOKEN_TYPES = new Set(['jwt', 'at+jwt']);

/** What selects issuer and key. Unverified. */
export interface TokenOutline {
  readonly algorithm: string;
  readonly keyId: string | undefined;
  readonly issuer: string;
}

/**
 * The token of `Bearer <token>`: that spelling, one blank, one token. A list (two headers that a
 * proxy joined) is no token.
 *
 * @throws TwofoldError token_missing, token_invalid
 */
export function bearerToken(authorization: string | undefined): string {
  if (authorization === undefined || authorization === '') throw new TwofoldError('token_missing');
  if (!authorization.startsWith(SCHEME)) throw invalidToken('not the Bearer scheme');
  const length = authorization.length - SCHEME.length;
  if (length === 0 || length > MAX_TOKEN_LENGTH) throw invalidToken('length');
  return authorization.slice(SCHEME.length);
}

/**
 * Checks the form of a compact JWS whose payload is a claims object, and reads what selects the key.
 * Base64url must be canonical; `crit` and `b64` are refused (no extension is understood here); `typ`
 * may be absent, `JWT` or `at+jwt`, so that no other kind of signed object passes for a token
 * (RFC 8725 section 3.11). Embedded keys (`jwk`, `jku`, `x5c`, `x5u`) are never looked at.
 *
 * @throws TwofoldError token_invalid
 */
export function outlineToken(token: string): TokenOutline {
  const parts = token.split('.');
  const [head, payload, signature] = parts;
  if (parts.length !== 3 || head === undefined || payload === undefined || !signature) {
    throw invalidToken('not a compact JWS');
  }
  if (decodeBase64Url(signature) === undefined) throw invalidToken('signature encoding');
  const header = jsonObject(head);
  const { iss } = jsonObject(payload);
  const { alg, kid, typ } = header;
  if ('crit' in header || 'b64' in header) throw invalidToken('header extension');
  if (typeof alg !== 'string' || typeof iss !== 'string') throw invalidToken('alg or iss');
  if (!isTokenType(typ)) throw invalidToken('typ');
  if (kid !== undefined && (typeof kid !== 'string' || kid.length > MAX_KID_LENGTH)) {
    throw invalidToken('kid');
  }
  return { algorithm: alg, keyId: kid, issuer: iss };
}

/** Why a token was refused. Its `code` is for the log, which shows codes only. */
class RefusedToken extends Error {
  override readonly name = 'RefusedToken';
  readonly code: string;

  constructor(reason: string) {
    super(`token refused: ${reason}`);
    this.code = reason.toUpperCase().replaceAll(/[^A-Z0-9]+/gu, '_');
  }
}

/** The caller learns the code alone; `reason` is a fixed text for the log, with nothing of the token. */
export function invalidToken(reason: string, retryAfter?: number): TwofoldError {
  return new TwofoldError('token_invalid', undefined, {
    cause: new RefusedToken(reason),
    ...(retryAfter === undefined ? {} : { retryAfter }),
  });
}

/** Levels of objects and arrays; nested claims of issuers have under ten. */
const MAX_DEPTH = 32;
const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const OPENING: readonly number[] = [0x5b, 0x7b];
const CLOSING: readonly number[] = [0x5d, 0x7d];

/** Whether JSON has more levels than any reader of claims should have to follow. */
function isDeep(bytes: Uint8Array): boolean {
  let [depth, inText] = [0, false];
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at] ?? 0;
    if (inText && byte === BACKSLASH) at += 1;
    else if (byte === QUOTE) inText = !inText;
    else if (!inText && OPENING.includes(byte)) depth += 1;
    else if (!inText && CLOSING.includes(byte)) depth -= 1;
    if (depth > MAX_DEPTH) return true;
  }
  return false;
}

const isTokenType = (typ: unknown): boolean =>
  typ === undefined ||
  (typeof typ === 'string' && TOKEN_TYPES.has(typ.toLowerCase().replace(/^application\//u, '')));

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function jsonObject(part: string): Record<string, unknown> {
  const bytes = decodeBase64Url(part);
  if (bytes === undefined) throw invalidToken('part encoding');
  if (isDeep(bytes)) throw invalidToken('part is nested too deeply');
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(bytes));
  } catch {
    throw invalidToken('part is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidToken('part is not an object');
  }
  return value as Record<string, unknown>;
}
