/**
 * The shape of a suite: what every row of `suites.ts` carries, so that nothing else needs to know a
 * suite by name. Resolve an id once with `findSuite`, then pass the row.
 */
import type { Engine, MlDsaParameterSet, MlKemParameterSet } from './engine.ts';
import type { KeyEncoding } from './key-encoding.ts';
import type { SecretBytes } from './secret.ts';

/** What a key is for; a KEM suite serves `wrap` or `kem`, each other class its one purpose. */
export type Purpose = 'wrap' | 'kem' | 'sign' | 'mac';

export type Curve = 'P-256' | 'P-384' | 'X25519';
export type SigningCurve = Exclude<Curve, 'X25519'>;
export type Hash = 'SHA-256' | 'SHA-384' | 'SHA-512';

/** What the classical half (or the whole symmetric key) needs from the HSM. */
export type HsmNeed =
  | { readonly kind: 'ec'; readonly curve: Curve; readonly use: 'derive' }
  | { readonly kind: 'ec'; readonly curve: SigningCurve; readonly use: 'sign' }
  | { readonly kind: 'aes'; readonly bits: 256; readonly use: 'encrypt' }
  | { readonly kind: 'hmac'; readonly bytes: number; readonly hash: Hash; readonly use: 'mac' };

export interface Strength {
  /** NIST security category (1 to 5) of the weaker post-quantum claim of the whole. */
  readonly category: 1 | 2 | 3 | 5;
  /** True when a quantum computer breaks the whole suite. */
  readonly quantumVulnerable: boolean;
}

/** The document that defines the suite's bytes; a new revision that changes bytes is a new number. */
export interface StandardReference {
  readonly document: string;
  readonly revision: string;
}

export interface Part {
  readonly half: 'pq' | 'classical';
  /** The standard's name of the half, e.g. `ML-KEM-768`, `ECDH-P256`. */
  readonly algorithm: string;
  readonly publicKeyLength: number;
}

/** Public halves, raw: FIPS bytes, and an uncompressed point (04 ‖ X ‖ Y) or 32 bytes of X25519. */
export interface PublicHalves {
  readonly pq: Uint8Array;
  readonly classical: Uint8Array;
}

/**
 * The private side of a hybrid KEM. Each callback gives a secret that the caller of it then owns
 * and wipes. Reject with a TwofoldError of infrastructure (`hsm_unavailable`, ...) to have it pass
 * through unchanged; inputs were already checked (length, point on curve, not low order).
 */
export interface KemHalves {
  /** ML-KEM.Decaps of the ciphertext: 32 bytes. */
  readonly pq: (ciphertext: Uint8Array) => Promise<SecretBytes>;
  /** Raw ECDH with the peer's public key: the x-coordinate (32 or 48 bytes) or X25519's output. */
  readonly classical: (peerPublicKey: Uint8Array) => Promise<SecretBytes>;
}

export interface KemEncapsulated {
  /** 32 bytes, owned by the caller. */
  readonly sharedSecret: SecretBytes;
  readonly encapsulation: Uint8Array;
}

export interface Kem {
  readonly lengths: { readonly publicKey: number; readonly encapsulation: number };
  /**
   * Checks both halves and joins them in the suite's order.
   * @throws TwofoldError invalid_value
   */
  joinPublicKey(engine: Engine, halves: PublicHalves): Uint8Array;
  /** @throws TwofoldError invalid_value for a wrong length */
  splitPublicKey(publicKey: Uint8Array): PublicHalves;
  /**
   * @throws TwofoldError invalid_value when the public key is not valid
   */
  encapsulate(engine: Engine, publicKey: Uint8Array): Promise<KemEncapsulated>;
  /**
   * Runs both halves in parallel; waits for both even if one fails, wipes whatever came.
   * @throws TwofoldError decryption_failed for a malformed encapsulation; what a half rejected with
   */
  decapsulate(
    encapsulation: Uint8Array,
    publicKey: Uint8Array,
    halves: KemHalves,
  ): Promise<SecretBytes>;
}

/** What is signed: the message itself, or its digest by the suite's pre-hash. */
export type SignatureInput =
  | { readonly message: Uint8Array }
  | { readonly digest: { readonly algorithm: Hash; readonly value: Uint8Array } };

/** The private side of a composite signature. */
export interface SignHalves {
  /** Pure ML-DSA over `message` with `context`. */
  readonly pq: (message: Uint8Array, context: Uint8Array) => Promise<Uint8Array>;
  /** ECDSA over a digest (CKM_ECDSA): r ‖ s, each of the curve's field length. */
  readonly classical: (digest: Uint8Array) => Promise<Uint8Array>;
}

export interface Signer {
  readonly lengths: { readonly publicKey: number; readonly signatureMax: number };
  /** The digest algorithm that `SignatureInput.digest` must name. */
  readonly prehash: Hash;
  /** Digest algorithm whose output the classical callback gets. */
  readonly classicalHash: Hash;
  joinPublicKey(halves: PublicHalves): Uint8Array;
  splitPublicKey(publicKey: Uint8Array): PublicHalves;
  /**
   * @param context `signatureContext`, at most 255 bytes
   * @throws TwofoldError invalid_value for a context or digest that does not fit
   */
  sign(input: SignatureInput, context: Uint8Array, halves: SignHalves): Promise<Uint8Array>;
  /**
   * True only if both halves verify. Never throws for a bad signature.
   * @throws TwofoldError invalid_value as `sign`
   */
  verify(
    engine: Engine,
    publicKey: Uint8Array,
    input: SignatureInput,
    context: Uint8Array,
    signature: Uint8Array,
  ): Promise<boolean>;
}

/** One AEAD key, usually in the HSM; the tag is appended to the ciphertext. */
export interface AeadKey {
  /** The nonce comes from whoever encrypts (the HSM). */
  readonly encrypt: (
    plaintext: Uint8Array,
    associatedData: Uint8Array,
  ) => Promise<{ readonly nonce: Uint8Array; readonly ciphertext: Uint8Array }>;
  /** Rejects with TwofoldError decryption_failed when the tag does not verify. */
  readonly decrypt: (
    nonce: Uint8Array,
    ciphertext: Uint8Array,
    associatedData: Uint8Array,
  ) => Promise<SecretBytes>;
}

export interface Aead {
  readonly keyLength: number;
  readonly nonceLength: number;
  readonly tagLength: number;
}

export interface Mac {
  readonly hash: Hash;
  readonly keyLength: number;
  readonly macLength: number;
}

/** A KDF of the one-stage kind (draft-ietf-hpke-pq section 4): an extendable-output function. */
export interface OneStageKdf {
  readonly id: number;
  /** Nh: bytes of the exporter secret. */
  readonly hashLength: number;
  readonly xof: (parts: readonly Uint8Array[], length: number) => Uint8Array;
}

/** An AEAD of HPKE with its key in the host; the tag is appended to the ciphertext. */
export interface HpkeAead {
  readonly id: number;
  readonly keyLength: number;
  readonly nonceLength: number;
  seal(
    key: SecretBytes,
    nonce: Uint8Array,
    associatedData: Uint8Array,
    plaintext: SecretBytes,
  ): Uint8Array;
  /** @throws TwofoldError decryption_failed */
  open(
    key: SecretBytes,
    nonce: Uint8Array,
    associatedData: Uint8Array,
    ciphertext: Uint8Array,
  ): SecretBytes;
}

/** Code points (RFC 9180 section 7, draft-ietf-hpke-pq section 5) and what stands behind them. */
export interface HpkeSuite {
  readonly kem: number;
  readonly kdf: number;
  readonly aead: number;
  readonly schedule: OneStageKdf;
  readonly cipher: HpkeAead;
}

interface SuiteRow {
  /** The standard's own name; the only name of the suite anywhere. */
  readonly id: string;
  /** u16 in envelopes; never reused. */
  readonly number: number;
  readonly status: 'offered' | 'experimental';
  readonly standard: StandardReference;
  readonly strength: Strength;
  readonly parts: readonly Part[];
  readonly hsm: HsmNeed;
}

/** A hybrid KEM with HPKE on top: serves `wrap` and `kem`. */
export interface KemSuite extends SuiteRow {
  readonly class: 'wrap';
  readonly kind: 'kem';
  readonly pq: MlKemParameterSet;
  readonly hpke: HpkeSuite;
  readonly encoding: KeyEncoding;
  readonly kem: Kem;
}

/** A symmetric key in the HSM. */
export interface AeadSuite extends SuiteRow {
  readonly class: 'wrap';
  readonly kind: 'aead';
  readonly aead: Aead;
}

export interface SignatureSuite extends SuiteRow {
  readonly class: 'sign';
  readonly kind: 'signature';
  readonly pq: MlDsaParameterSet;
  readonly encoding: KeyEncoding;
  readonly signer: Signer;
}

export interface MacSuite extends SuiteRow {
  readonly class: 'mac';
  readonly kind: 'mac';
  readonly mac: Mac;
}

/** Discriminate by `kind`. */
export type Suite = KemSuite | AeadSuite | SignatureSuite | MacSuite;
export type WrapSuite = KemSuite | AeadSuite;

/** The purposes that a suite may be created for. */
export function purposesOf(suite: Suite): readonly Purpose[] {
  return suite.kind === 'kem' ? ['wrap', 'kem'] : [suite.class];
}
