/**
 * A JWK Set (RFC 7517 section 5) as the public keys that may verify tokens of one issuer.
 *
 * Each key is bound to the algorithms that its type, curve and own `alg` allow before any token is
 * seen, so a token's `alg` can never make a key something else (RFC 8725 section 3.1).
 */
import { calculateJwkThumbprint, importJWK } from 'jose';
import type { CryptoKey, JWK } from 'jose';
import { algorithmsOf, assertUsable, readJwkSet, refusedKeySet } from './jwk-set.ts';
import type { TokenAlgorithm } from './jwk-set.ts';

interface SetKey {
  /** What it was made of, to know it again. */
  readonly text: string;
  readonly keyId: string | undefined;
  /** SHA-256 thumbprint (RFC 7638), base64url. */
  readonly thumbprint: string;
  readonly keys: ReadonlyMap<TokenAlgorithm, CryptoKey>;
}

/** What an issuer takes of a set. */
export interface TakenKeys {
  readonly algorithms: readonly TokenAlgorithm[];
  readonly pinned?: readonly string[] | undefined;
}

/** A key as people are told of it. */
export interface KeyFacts {
  readonly keyId: string | null;
  readonly thumbprint: string;
  readonly algorithms: readonly TokenAlgorithm[];
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
   * @param taken the issuer's algorithms, and the thumbprints of the only keys that it may have
   * @param before the set that this one replaces: a key that is in both stays the same object
   * @throws TwofoldError invalid_value when it is no JWK Set, is too large, has two keys of one id,
   *   or none is usable
   */
  static async parse(
    bytes: Uint8Array,
    { algorithms: allowed, pinned }: TakenKeys,
    before?: KeySet,
  ): Promise<KeySet> {
    const jwks = readJwkSet(bytes);
    assertUsable(jwks, allowed);
    const known = new Map((before === undefined ? [] : before.#keys).map((key) => [key.text, key]));
    const imported = await Promise.all(
      jwks.map(async (jwk) => known.get(JSON.stringify(jwk)) ?? importKey(jwk, allowed)),
    );
    const usable = imported.filter((key) => key !== undefined);
    const keys = usable.filter((key) => pinned?.includes(key.thumbprint) ?? true);
    if (keys.length < usable.length && keys.length === 0) {
      throw refusedKeySet('has none of the pinned keys');
    }
    if (keys.length === 0) throw refusedKeySet('has no key that can verify a token');
    if (new Set(keys.map((key) => key.keyId)).size !== keys.length) {
      throw refusedKeySet('has two keys of the same kid, or several without one');
    }
    return new KeySet(keys);
  }

  get facts(): readonly KeyFacts[] {
    return this.#keys.map(({ keyId, thumbprint, keys }) => ({
      keyId: keyId ?? null,
      thumbprint,
      algorithms: [...keys.keys()],
    }));
  }

  /** Thumbprints of its keys (RFC 7638, SHA-256, base64url): for logs, which tell keys apart by them. */
  get thumbprints(): readonly string[] {
    return this.#keys.map(({ thumbprint }) => thumbprint);
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

async function importKey(
  jwk: JWK,
  allowed: readonly TokenAlgorithm[],
): Promise<SetKey | undefined> {
  const algorithms = algorithmsOf(jwk).filter((algorithm) => allowed.includes(algorithm));
  if (algorithms.length === 0) return undefined;
  const keys = new Map<TokenAlgorithm, CryptoKey>();
  for (const algorithm of algorithms) {
    const key = await importJWK(jwk, algorithm).catch(() => undefined);
    if (key === undefined || key instanceof Uint8Array || !isStrong(key)) return undefined;
    keys.set(algorithm, key);
  }
  const thumbprint = await calculateJwkThumbprint(jwk);
  return { text: JSON.stringify(jwk), keyId: jwk.kid, thumbprint, keys };
}

const MIN_RSA_BITS = 2048;

function isStrong(key: CryptoKey): boolean {
  const { modulusLength } = key.algorithm as { readonly modulusLength?: number };
  return modulusLength === undefined || modulusLength >= MIN_RSA_BITS;
}
