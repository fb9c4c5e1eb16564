/**
 * A JWK Set (RFC 7517 section 5) as text: what it must be before any of its keys is imported, and
 * which of them may verify tokens. Pure and synchronous, so that the configuration's check uses it too.
 */
import type { JWK } from 'jose';
import { TwofoldError } from '../errors.ts';

/** Signature algorithms that a token may have: asymmetric ones only, so that no key is confused. */
export const TOKEN_ALGORITHMS = [
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
  'PS256',
  'PS384',
  'PS512',
  'RS256',
  'RS384',
  'RS512',
  'ML-DSA-44',
  'ML-DSA-65',
  'ML-DSA-87',
] as const;

export type TokenAlgorithm = (typeof TOKEN_ALGORITHMS)[number];

/** Longest set in bytes and in keys; public ones are a few KiB and under ten. */
export const MAX_KEY_SET_BYTES = 262_144;
const MAX_KEYS = 100;

const RSA: readonly TokenAlgorithm[] = ['PS256', 'PS384', 'PS512', 'RS256', 'RS384', 'RS512'];
const BY_CURVE: ReadonlyMap<string, readonly TokenAlgorithm[]> = new Map([
  ['EC P-256', ['ES256']],
  ['EC P-384', ['ES384']],
  ['EC P-521', ['ES512']],
  ['OKP Ed25519', ['EdDSA', 'Ed25519']],
]);
const AKP: readonly TokenAlgorithm[] = ['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'];
/** Members of private and symmetric keys (RFC 7518 section 6, RFC 9964). */
const SECRET_MEMBERS = ['d', 'priv', 'k', 'p', 'q', 'dp', 'dq', 'qi', 'oth'];

/** Never quotes the set: what is wrong with it may be that it holds a secret. */
export const refusedKeySet = (why: string): TwofoldError =>
  new TwofoldError('invalid_value', `The key set ${why}.`);

/** @throws TwofoldError invalid_value when it is no JWK Set, or is too large */
export function readJwkSet(bytes: Uint8Array): readonly JWK[] {
  if (bytes.length > MAX_KEY_SET_BYTES) throw refusedKeySet('is too large');
  const value = parseJson(bytes);
  const keys = isObject(value) ? value['keys'] : undefined;
  if (!Array.isArray(keys)) throw refusedKeySet('is not a JWK Set');
  if (keys.length > MAX_KEYS) throw refusedKeySet('is not a JWK Set of 100 keys at most');
  return keys.filter(isObject);
}

/**
 * A file for this service alone has no business with secrets: one that holds any is a mistake that
 * has to be seen, while a set by address may serve others too and is only read past them.
 *
 * @throws TwofoldError invalid_value
 */
export function assertPublic(keys: readonly JWK[]): void {
  if (keys.some(hasSecret)) {
    throw refusedKeySet('holds a private or symmetric key; keep it elsewhere, and replace it');
  }
}

/** What a key may verify by its type, curve, `alg`, `use` and `key_ops`; empty for any other key. */
export function algorithmsOf(jwk: JWK): readonly TokenAlgorithm[] {
  if (!isPublicVerificationKey(jwk)) return [];
  const fitting = algorithmsOfType(jwk);
  return jwk.alg === undefined ? fitting : fitting.filter((algorithm) => algorithm === jwk.alg);
}

/** @throws TwofoldError invalid_value when no key may verify a token of these algorithms */
export function assertUsable(keys: readonly JWK[], allowed: readonly TokenAlgorithm[]): void {
  const usable = keys.some((jwk) => algorithmsOf(jwk).some((name) => allowed.includes(name)));
  if (!usable) throw refusedKeySet('has no key that can verify a token');
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as unknown;
  } catch {
    throw refusedKeySet('is not JSON');
  }
}

function algorithmsOfType(jwk: JWK): readonly TokenAlgorithm[] {
  if (jwk.kty === 'RSA') return RSA;
  // An AKP key is of exactly one algorithm, which it must name (RFC 9964 section 3).
  if (jwk.kty === 'AKP') return jwk.alg === undefined ? [] : AKP;
  return BY_CURVE.get(`${String(jwk.kty)} ${String(jwk.crv)}`) ?? [];
}

const hasSecret = (jwk: JWK): boolean => SECRET_MEMBERS.some((member) => member in jwk);

function isPublicVerificationKey(jwk: JWK): boolean {
  const { kid, use, key_ops: operations } = jwk;
  if (kid !== undefined && typeof kid !== 'string') return false;
  if (hasSecret(jwk)) return false;
  if (use !== undefined && use !== 'sig') return false;
  return operations === undefined || (Array.isArray(operations) && operations.includes('verify'));
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
