/**
 * The one interface to post-quantum primitives, implemented by `native-engine.ts` (OpenSSL through
 * node:crypto) and `portable-engine.ts` (@noble/post-quantum). The service runs with
 * `combined-engine.ts`, which takes the native one for what this Node has and the other for the
 * rest.
 *
 * Private keys are seeds everywhere, and nothing else is stored, taken or given:
 *
 * - ML-KEM, 64 bytes: d ‖ z (FIPS 203 section 7.1);
 * - ML-DSA, 32 bytes: xi (FIPS 204 section 5.1);
 * - SLH-DSA, 3n bytes: SK.seed ‖ SK.prf ‖ PK.seed, the input of slh_keygen_internal (FIPS 205
 *   algorithm 18); PK.root is always computed, so that none can be wrong;
 * - Falcon, 48 bytes: the seed of @noble/post-quantum's key generation, which expands it by
 *   SHAKE256 as the round-3 reference code does. (In the round-3 known answers these 48 bytes come
 *   out of NIST's generator, which the published seed starts.)
 */
import type { SecretBytes } from './secret.ts';

export type MlKemParameterSet = 'ML-KEM-512' | 'ML-KEM-768' | 'ML-KEM-1024';
export type MlDsaParameterSet = 'ML-DSA-44' | 'ML-DSA-65' | 'ML-DSA-87';
/** FIPS 205 table 2. */
export type SlhDsaParameterSet =
  | 'SLH-DSA-SHA2-128s'
  | 'SLH-DSA-SHA2-128f'
  | 'SLH-DSA-SHA2-192s'
  | 'SLH-DSA-SHA2-192f'
  | 'SLH-DSA-SHA2-256s'
  | 'SLH-DSA-SHA2-256f'
  | 'SLH-DSA-SHAKE-128s'
  | 'SLH-DSA-SHAKE-128f'
  | 'SLH-DSA-SHAKE-192s'
  | 'SLH-DSA-SHAKE-192f'
  | 'SLH-DSA-SHAKE-256s'
  | 'SLH-DSA-SHAKE-256f';
/**
 * Falcon of NIST's round 3, not FN-DSA: FIPS 206 is not published, and its bytes will differ.
 * Signatures have the padded form of one length, and no other is accepted.
 */
export type FalconParameterSet = 'Falcon-512' | 'Falcon-1024';
export type SignatureParameterSet = MlDsaParameterSet | SlhDsaParameterSet | FalconParameterSet;

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

/**
 * An imported private key: cache it instead of the seed, its first signature may have to expand it
 * (SLH-DSA up to some seconds, Falcon half a second). Unusable after `release`.
 */
export interface SigningKey {
  readonly parameterSet: SignatureParameterSet;
  /**
   * The pure form over the message, hedged by fresh randomness: ML-DSA (FIPS 204 algorithm 2),
   * SLH-DSA (FIPS 205 algorithm 22), Falcon (round 3, padded, with a fresh salt).
   *
   * @param context at most 255 bytes, empty for none; Falcon has none
   * @throws TwofoldError invalid_value for a context that does not fit, rate_limited when too many
   *   slow operations wait, suite_unavailable_here when a self-test of the set failed
   */
  sign(message: Uint8Array, context: Uint8Array): Promise<Uint8Array>;
  /**
   * ML-DSA only: signs an external mu (FIPS 204 algorithm 7 line 6), 64 bytes, hedged.
   *
   * @throws TwofoldError invalid_value for another length or another algorithm, and as `sign`
   */
  signMu(mu: Uint8Array): Promise<Uint8Array>;
  /** SLH-DSA only: the public key, of which signing needs PK.root too; it is computed once for both. */
  readonly publicKey?: () => Promise<Uint8Array>;
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

export interface Signatures {
  /**
   * A new pair that has passed a pairwise consistency test (FIPS 140-3 IG 10.3.A): the stored seed
   * gives the public key again, and its signature verifies.
   */
  generate(set: SignatureParameterSet): Promise<SeedPair>;
  /** The public key of a seed, which stays the caller's. Slow ones are computed off the loop. */
  publicKey(set: SignatureParameterSet, seed: SecretBytes): Promise<Uint8Array>;
  /**
   * Copies what it needs; `seed` stays the caller's to wipe.
   * @throws TwofoldError invalid_value for a seed of the wrong length
   */
  importSeed(set: SignatureParameterSet, seed: SecretBytes): SigningKey;
  /** The pure form; false for a signature, key or context of the wrong length or form. */
  verify(
    set: SignatureParameterSet,
    publicKey: Uint8Array,
    message: Uint8Array,
    signature: Uint8Array,
    context: Uint8Array,
  ): Promise<boolean>;
  /** Verifies over an external mu; false for a wrong length of anything. */
  verifyMu(
    set: MlDsaParameterSet,
    publicKey: Uint8Array,
    mu: Uint8Array,
    signature: Uint8Array,
  ): Promise<boolean>;
}

export type Implementation = 'native' | 'portable';

export interface Engine {
  readonly name: Implementation | 'combined';
  readonly mlKem: MlKem;
  readonly signatures: Signatures;
  /**
   * Who computes the set here; null for nobody: it is missing, or one of its known answers was
   * found wrong. (Sets that a start does not check are checked before their first use.)
   */
  implementationOf(set: MlKemParameterSet | SignatureParameterSet): Implementation | null;
  /** Who signs and verifies over an external mu with the set; null where nobody does. */
  implementationOfMu(set: SignatureParameterSet): Implementation | null;
}

interface MlKemLengths {
  readonly publicKey: number;
  /** The expanded dk, which is never stored. */
  readonly privateKey: number;
  readonly ciphertext: number;
}

/** Bytes, and which inputs the set has beside the message. */
export interface SignatureLengths {
  readonly publicKey: number;
  /** The standard's own form, which is never stored. */
  readonly privateKey: number;
  readonly signature: number;
  readonly seed: number;
  /** Takes a context string. */
  readonly context: boolean;
  /** Signs an external mu. */
  readonly mu: boolean;
}

export const ML_KEM_SEED_LENGTH = 64;
export const ML_KEM_SHARED_SECRET_LENGTH = 32;
export const MU_LENGTH = 64;
/** FIPS 204 section 5.2, FIPS 205 section 10.2: the context string is at most this long. */
export const MAX_SIGNATURE_CONTEXT = 255;

/** FIPS 203 table 3, bytes. */
export const ML_KEM_LENGTHS: Readonly<Record<MlKemParameterSet, MlKemLengths>> = {
  'ML-KEM-512': { publicKey: 800, privateKey: 1632, ciphertext: 768 },
  'ML-KEM-768': { publicKey: 1184, privateKey: 2400, ciphertext: 1088 },
  'ML-KEM-1024': { publicKey: 1568, privateKey: 3168, ciphertext: 1568 },
};

const mlDsa = (publicKey: number, privateKey: number, signature: number): SignatureLengths => ({
  publicKey,
  privateKey,
  signature,
  seed: 32,
  context: true,
  mu: true,
});

const slhDsa = (n: number, signature: number): SignatureLengths => ({
  publicKey: 2 * n,
  privateKey: 4 * n,
  signature,
  seed: 3 * n,
  context: true,
  mu: false,
});

const falcon = (publicKey: number, privateKey: number, signature: number): SignatureLengths => ({
  publicKey,
  privateKey,
  signature,
  seed: 48,
  context: false,
  mu: false,
});

/** FIPS 204 table 2, FIPS 205 table 2, and Falcon's specification (round 3) table 3.3. */
export const SIGNATURE_LENGTHS: Readonly<Record<SignatureParameterSet, SignatureLengths>> = {
  'ML-DSA-44': mlDsa(1312, 2560, 2420),
  'ML-DSA-65': mlDsa(1952, 4032, 3309),
  'ML-DSA-87': mlDsa(2592, 4896, 4627),
  'SLH-DSA-SHA2-128s': slhDsa(16, 7856),
  'SLH-DSA-SHA2-128f': slhDsa(16, 17088),
  'SLH-DSA-SHA2-192s': slhDsa(24, 16224),
  'SLH-DSA-SHA2-192f': slhDsa(24, 35664),
  'SLH-DSA-SHA2-256s': slhDsa(32, 29792),
  'SLH-DSA-SHA2-256f': slhDsa(32, 49856),
  'SLH-DSA-SHAKE-128s': slhDsa(16, 7856),
  'SLH-DSA-SHAKE-128f': slhDsa(16, 17088),
  'SLH-DSA-SHAKE-192s': slhDsa(24, 16224),
  'SLH-DSA-SHAKE-192f': slhDsa(24, 35664),
  'SLH-DSA-SHAKE-256s': slhDsa(32, 29792),
  'SLH-DSA-SHAKE-256f': slhDsa(32, 49856),
  'Falcon-512': falcon(897, 1281, 666),
  'Falcon-1024': falcon(1793, 2305, 1280),
};
