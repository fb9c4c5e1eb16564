/**
 * A JWK Set (RFC 7517 section 5) as the public keys that may verify tokens of one issuer.
 *
 * Each key is bound to the algorithms that its type, curve and own `alg` allow before any token is
 * seen, so a token's `alg` can never make a key something else (RFC 8725 section 3.1).
 */
import { importJWK } from 'jose';
import type { CryptoKey, JWK } from 'jose';

/** Signature algorithms that a token may have: asymmetric ones only. */
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

interface SetKey {
  readonly keyId: string | undefined;
  readonly keys: ReadonlyMap<TokenAlgorithm, CryptoKey>;
}

export class KeySet {
  readonly #keys: readonly SetKey[];

  private constructor(keys: readonly SetKey[]) {
    this.#keys = keys;
  }

  /**
   * Reads a set and imports what it can use. Keys of unknown types, for other uses, with private
   * or symmetric members, or that do not import are left out, as the RFC asks.
   *
   * @param allowed the issuer's algorithms
   * @throws Error when it is no JWK Set, is too large, has two keys of one id, or none is usable
   */
  static async parse(bytes: Uint8Array, allowed: readonly TokenAlgorithm[]): Promise<KeySet> {
    const jwks = readSet(bytes);
    const imported = await Promise.all(jwks.map((jwk) => importKey(jwk, allowed)));
    const keys = imported.filter((key) => key !== undefined);
    if (keys.length === 0) throw new Error('the key set has no key that can verify a token');
    if (new Set(keys.map((key) => key.keyId)).size !== keys.length) {
      throw new Error('the key set has two keys of the same kid, or several without one');
    }
    return new KeySet(keys);
  }

  /**
   * The key for a token's header, or undefined. Without a `kid` in the token the set must consist of
   * one key.
   */
  find(algorithm: TokenAlgorithm, keyId: string | undefined): CryptoKey | undefined {
    if (keyId === undefined) {
      return this.#keys.length === 1 ? this.#keys[0]?.keys.get(algorithm) : undefined;
    }
    return this.#keys.find((key) => key.keyId === keyId)?.keys.get(algorithm);
  }
}

function readSet(bytes: Uint8Array): readonly JWK[] {
  if (bytes.length > MAX_KEY_SET_BYTES) throw new Error('the key set is too large');
  const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  const keys = isObject(value) ? value['keys'] : undefined;
  if (!Array.isArray(keys) || keys.length > MAX_KEYS) throw new Error('this is not a JWK Set');
  return keys.filter(isObject);
}

async function importKey(
  jwk: JWK,
  allowed: readonly TokenAlgorithm[],
): Promise<SetKey | undefined> {
  const algorithms = algorithmsOf(jwk).filter((algorithm) => allowed.includes(algorithm));
  if (algorithms.length === 0 || !isPublicVerificationKey(jwk)) return undefined;
  const keys = new Map<TokenAlgorithm, CryptoKey>();
  for (const algorithm of algorithms) {
    const key = await importJWK(jwk, algorithm).catch(() => undefined);
    if (key === undefined || key instanceof Uint8Array || !isStrong(key)) return undefined;
    keys.set(algorithm, key);
  }
  return { keyId: jwk.kid, keys };
}

function algorithmsOf(jwk: JWK): readonly TokenAlgorithm[] {
  const fitting = algorithmsOfType(jwk);
  return jwk.alg === undefined ? fitting : fitting.filter((algorithm) => algorithm === jwk.alg);
}

function algorithmsOfType(jwk: JWK): readonly TokenAlgorithm[] {
  if (jwk.kty === 'RSA') return RSA;
  // An AKP key is of exactly one algorithm, which it must name (RFC 9964 section 3).
  if (jwk.kty === 'AKP') return jwk.alg === undefined ? [] : AKP;
  return BY_CURVE.get(`${String(jwk.kty)} ${String(jwk.crv)}`) ?? [];
}

function isPublicVerificationKey(jwk: JWK): boolean {
  const { kid, use, key_ops: operations } = jwk;
  if (kid !== undefined && typeof kid !== 'string') return false;
  if (['d', 'priv', 'k', 'p', 'q'].some((member) => member in jwk)) return false;
  if (use !== undefined && use !== 'sig') return false;
  return operations === undefined || (Array.isArray(operations) && operations.includes('verify'));
}

const MIN_RSA_BITS = 2048;

function isStrong(key: CryptoKey): boolean {
  const { modulusLength } = key.algorithm as { readonly modulusLength?: number };
  return modulusLength === undefined || modulusLength >= MIN_RSA_BITS;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
