/**
 * The one interface to post-quantum primitives, implemented by `native-engine.ts` (OpenSSL through
 * node:crypto), with which the service runs, and `portable-engine.ts` (@noble/post-quantum).
 *
 * Private keys are seeds everywhere: 64 bytes d ‖ z for ML-KEM (FIPS 203 section 7.1), 32 bytes xi
 * for ML-DSA (FIPS 204 section 5.1). An expanded private key is never taken or given.
 */
import type { SecretBytes } from './secret.ts';

export type MlKemParameterSet = 'ML-KEM-512' | 'ML-KEM-768' | 'ML-KEM-1024';
export type MlDsaParameterSet = 'ML-DSA-44' | 'ML-DSA-65' | 'ML-DSA-87';

/** A new pair; the caller owns `seed` and wipes it. */
export interface SeedPair {
  readonly seed: SecretBytes;
  readonly publicKey: Uint8Array;
}

/** What an encapsulation gives; the caller owns `sharedSecret` (32 bytes) and wipes it. */
export interface Encapsulated {
  readonly sharedSecret: SecretBytes;
  readonly ciphertext: Uint8Array;
}

/**
 * An imported ML-KEM private key: cache it instead of the seed, it saves the expansion.
 * Unusable after `release`.
 */
export interface DecapsulationKey {
  readonly parameterSet: MlKemParameterSet;
  /**
   * ML-KEM.Decaps with implicit rejection; the ciphertext's length is checked first (FIPS 203
   * section 7.3).
   * @throws TwofoldError decryption_failed when the length is wrong
   */
  decapsulate(ciphertext: Uint8Array): Promise<SecretBytes>;
  release(): void;
}

/** An imported ML-DSA private key; unusable after `release`. */
export interface SigningKey {
  readonly parameterSet: MlDsaParameterSet;
  /** Pure, hedged ML-DSA (FIPS 204 algorithm 2); `context` at most 255 bytes, empty for none. */
  sign(message: Uint8Array, context: Uint8Array): Promise<Uint8Array>;
  release(): void;
}

export interface MlKem {
  generate(set: MlKemParameterSet): Promise<SeedPair>;
  /** The encapsulation key of a seed; `seed` stays the caller's. */
  publicKey(set: MlKemParameterSet, seed: SecretBytes): Uint8Array;
  /** Copies what it needs; `seed` stays the caller's to wipe. */
  importSeed(set: MlKemParameterSet, seed: SecretBytes): DecapsulationKey;
  /**
   * The input check of FIPS 203 section 7.2: exact length, every coefficient below q.
   * @throws TwofoldError invalid_value
   */
  checkPublicKey(set: MlKemParameterSet, publicKey: Uint8Array): void;
  /** Checks the key as `checkPublicKey` does, then encapsulates. */
  encapsulate(set: MlKemParameterSet, publicKey: Uint8Array): Promise<Encapsulated>;
}

export interface MlDsa {
  generate(set: MlDsaParameterSet): Promise<SeedPair>;
  publicKey(set: MlDsaParameterSet, seed: SecretBytes): Uint8Array;
  importSeed(set: MlDsaParameterSet, seed: SecretBytes): SigningKey;
  /** Pure ML-DSA; false for a signature, key or context of the wrong length. */
  verify(
    set: MlDsaParameterSet,
    publicKey: Uint8Array,
    message: Uint8Array,
    signature: Uint8Array,
    context: Uint8Array,
  ): Promise<boolean>;
}

export interface Engine {
  readonly name: 'native' | 'portable';
  readonly mlKem: MlKem;
  readonly mlDsa: MlDsa;
}

interface MlKemLengths {
  readonly publicKey: number;
  readonly ciphertext: number;
}

interface MlDsaLengths {
  readonly publicKey: number;
  readonly signature: number;
}

export const ML_KEM_SEED_LENGTH = 64;
export const ML_DSA_SEED_LENGTH = 32;
export const ML_KEM_SHARED_SECRET_LENGTH = 32;
/** FIPS 204 section 5.2: the context string is at most this long. */
export const MAX_SIGNATURE_CONTEXT = 255;

/** FIPS 203 table 3, bytes. */
export const ML_KEM_LENGTHS: Readonly<Record<MlKemParameterSet, MlKemLengths>> = {
  'ML-KEM-512': { publicKey: 800, ciphertext: 768 },
  'ML-KEM-768': { publicKey: 1184, ciphertext: 1088 },
  'ML-KEM-1024': { publicKey: 1568, ciphertext: 1568 },
};

/** FIPS 204 table 2, bytes. */
export const ML_DSA_LENGTHS: Readonly<Record<MlDsaParameterSet, MlDsaLengths>> = {
  'ML-DSA-44': { publicKey: 1312, signature: 2420 },
  'ML-DSA-65': { publicKey: 1952, signature: 3309 },
  'ML-DSA-87': { publicKey: 2592, signature: 4627 },
};

/** What any ML-DSA verification needs before it can be true; the same for both engines. */
export function verifiableLengths(
  set: MlDsaParameterSet,
  publicKey: Uint8Array,
  signature: Uint8Array,
  context: Uint8Array,
): boolean {
  const lengths = ML_DSA_LENGTHS[set];
  return (
    publicKey.length === lengths.publicKey &&
    signature.length === lengths.signature &&
    context.length <= MAX_SIGNATURE_CONTEXT
  );
}
