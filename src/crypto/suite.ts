/**
 * The shape of a suite: what every row of `suites.ts` carries, so that nothing else needs to know a
 * suite by name. Resolve an id once with `findSuite`, then pass the row.
 */
import type {
  Engine,
  MlDsaParameterSet,
  MlKemParameterSet,
  SignatureParameterSet,
} from './engine.ts';
import type { HsmKeySpec } from './hsm-key.ts';
import type { KeyEncoding } from './key-encoding.ts';
import type { SecretBytes } from './secret.ts';

/** What a key is for; a KEM suite serves `wrap` or `kem`, each other class its one purpose. */
export type Purpose = 'wrap' | 'kem' | 'sign' | 'mac';

/** Groups of a Diffie-Hellman half. */
export type Curve = 'P-256' | 'P-384' | 'X25519';
/** Curves of ECDSA. */
export type SigningCurve = 'P-256' | 'P-384' | 'P-521';
export type Hash = 'SHA-256' | 'SHA-384' | 'SHA-512';

export interface Strength {
  /** NIST security category of the post-quantum claim of the whole; null where there is none. */
  readonly category: 1 | 2 | 3 | 5 | null;
  /** True when a quantum computer breaks the whole suite. */
  readonly quantumVulnerable: boolean;
}

/** The document that defines the suite's bytes; a new revision that changes bytes is a new number. */
export interface StandardReference {
  readonly document: string;
  readonly revision: string;
  /** `own`: a construction of ours, which no other implementation can be expected to know. */
  readonly status: 'final' | 'draft' | 'round-3' | 'own';
}

/**
 * What a policy profile goes by. `cnsa2`: listed in CNSA 2.0; `cnsa2-strength`: of that strength but
 * not listed; `approved`: every algorithm of it approved by NIST (FIPS 140-3, SP 800-140C).
 */
export type Standing = 'cnsa2' | 'cnsa2-strength' | 'approved';

export interface Part {
  readonly half: 'pq' | 'classical';
  /** The standard's name of the half, e.g. `ML-KEM-768`, `ECDH-P256`. */
  readonly algorithm: string;
  readonly publicKeyLength: number;
  /** In the form of its standard (ML-KEM: the expanded dk); null where that differs from key to key (RSA). */
  readonly privateKeyLength: number | null;
  /** What is stored, sealed, in place of a private key in software; null for a half in the HSM. */
  readonly seedLength: number | null;
}

/**
 * Public halves, raw: FIPS bytes, and an uncompressed point (04 ‖ X ‖ Y), 32 bytes of X25519 or
 * Ed25519, or RSAPublicKey in DER. A half that the suite does not have is empty.
 */
export interface PublicHalves {
  readonly pq: Uint8Array;
  readonly classical: Uint8Array;
}

/**
 * The private side of a KEM; only the halves that the suite has are called. Each callback gives a
 * secret that the caller of it then owns and wipes. Reject with a TwofoldError of infrastructure
 * (`hsm_unavailable`, ...) to have it pass through unchanged; inputs were already checked (length,
 * point on curve, not low order).
 */
export interface KemHalves {
  /** ML-KEM.Decaps of the ciphertext: 32 bytes. */
  readonly pq: (ciphertext: Uint8Array) => Promise<SecretBytes>;
  /**
   * Raw ECDH with the peer's public key (the x-coordinate of 32 or 48 bytes, or X25519's output), or
   * RSAES-OAEP decryption (32 bytes; rejects with TwofoldError decryption_failed).
   */
  readonly classical: (ciphertext: Uint8Array) => Promise<SecretBytes>;
}

export interface KemEncapsulated {
  /** Owned by the caller. */
  readonly sharedSecret: SecretBytes;
  readonly encapsulation: Uint8Array;
}

export interface Kem {
  readonly lengths: { readonly publicKey: number; readonly encapsulation: number };
  /**
   * Checks the halves and joins them in the suite's order.
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
   * Runs the halves in parallel; waits for both even if one fails, wipes whatever came.
   * @throws TwofoldError decryption_failed for a malformed encapsulation; what a half rejected with
   */
  decapsulate(
    encapsulation: Uint8Array,
    publicKey: Uint8Array,
    halves: KemHalves,
  ): Promise<SecretBytes>;
}

/**
 * What is signed: the message itself, its digest where the suite hashes first, or ML-DSA's mu (FIPS
 * 204 algorithm 7 line 6, 64 bytes), into which the context has gone already.
 */
export type SignatureInput =
  | { readonly message: Uint8Array }
  | { readonly digest: { readonly algorithm: Hash; readonly value: Uint8Array } }
  | { readonly mu: Uint8Array };

/** The private side of a signature; only the halves that the suite has are called. */
export interface SignHalves {
  /** The pure form of the set over `message` with `context`. */
  readonly pq: (message: Uint8Array, context: Uint8Array) => Promise<Uint8Array>;
  /** ML-DSA over an external mu. */
  readonly mu: (mu: Uint8Array) => Promise<Uint8Array>;
  /**
   * `Hsm.sign`: over a digest (ECDSA: r ‖ s, each of the field's length; RSA), over the message
   * itself for Ed25519.
   */
  readonly classical: (input: Uint8Array) => Promise<Uint8Array>;
}

export interface Signer {
  readonly lengths: { readonly publicKey: number; readonly signatureMax: number };
  /** The digest algorithm that `SignatureInput.digest` must name; null: the suite takes no digest. */
  readonly prehash: Hash | null;
  /** Whether it takes a `signatureContext`, and an external mu. */
  readonly takes: { readonly context: boolean; readonly mu: boolean };
  /** @throws TwofoldError invalid_value */
  joinPublicKey(halves: PublicHalves): Uint8Array;
  /** @throws TwofoldError invalid_value for a wrong length */
  splitPublicKey(publicKey: Uint8Array): PublicHalves;
  /**
   * @param context `signatureContext`, at most 255 bytes
   * @throws TwofoldError invalid_value for a context or input that the suite does not take
   */
  sign(input: SignatureInput, context: Uint8Array, halves: SignHalves): Promise<Uint8Array>;
  /**
   * True only if every half verifies. Never throws for a bad signature.
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
  readonly stages: 1;
  readonly id: number;
  /** Nh: bytes of the exporter secret. */
  readonly hashLength: number;
  readonly xof: (parts: readonly Uint8Array[], length: number) => Uint8Array;
}

/** A KDF of RFC 9180: HKDF with one hash. */
export interface TwoStageKdf {
  readonly stages: 2;
  readonly id: number;
  /** Nh: bytes of the hash, of a pseudorandom key and of the exporter secret. */
  readonly hashLength: number;
  readonly extract: (salt: Uint8Array, parts: readonly Uint8Array[]) => Uint8Array;
  readonly expand: (key: Uint8Array, info: readonly Uint8Array[], length: number) => Uint8Array;
}

/** What stands before the input of each derivation of a suite, made once: version, suite_id, label, length. */
export interface OneStageLabels {
  readonly secret: Uint8Array;
}
export interface TwoStageLabels {
  readonly pskIdHash: Uint8Array;
  readonly infoHash: Uint8Array;
  readonly secret: Uint8Array;
  readonly key: Uint8Array;
  readonly baseNonce: Uint8Array;
  readonly exporter: Uint8Array;
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

/**
 * Code points (RFC 9180 section 7, draft-ietf-hpke-pq section 5) and what stands behind them; made by
 * `hpkeSuite`.
 */
export interface HpkeSuite {
  /** 0xff01 and above are ours and registered nowhere. */
  readonly kem: number;
  readonly kdf: number;
  readonly aead: number;
  /** suite_id = "HPKE" ‖ kem ‖ kdf ‖ aead. */
  readonly id: Uint8Array;
  readonly schedule:
    | (OneStageKdf & { readonly labels: OneStageLabels })
    | (TwoStageKdf & { readonly labels: TwoStageLabels });
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
  readonly standings: readonly Standing[];
  readonly parts: readonly Part[];
}

/** A KEM with HPKE on top: serves `wrap` and `kem`. It has at least one half. */
export interface KemSuite extends SuiteRow {
  readonly class: 'wrap';
  readonly kind: 'kem';
  /** The half in software; null where there is none. */
  readonly pq: MlKemParameterSet | null;
  /** The half in the HSM; null where there is none. */
  readonly hsm: HsmKeySpec | null;
  readonly hpke: HpkeSuite;
  readonly encoding: KeyEncoding;
  readonly kem: Kem;
}

/** A symmetric key in the HSM. */
export interface AeadSuite extends SuiteRow {
  readonly class: 'wrap';
  readonly kind: 'aead';
  readonly pq: null;
  readonly hsm: HsmKeySpec;
  readonly aead: Aead;
}

/** A signature; it has at least one half. */
export interface SignatureSuite extends SuiteRow {
  readonly class: 'sign';
  readonly kind: 'signature';
  readonly pq: SignatureParameterSet | null;
  readonly hsm: HsmKeySpec | null;
  readonly encoding: KeyEncoding;
  readonly signer: Signer;
}

export interface MacSuite extends SuiteRow {
  readonly class: 'mac';
  readonly kind: 'mac';
  readonly pq: null;
  readonly hsm: HsmKeySpec;
  readonly mac: Mac;
}

/** A KEM of both halves, of which the classical one is a Diffie-Hellman. */
export interface HybridKemSuite extends KemSuite {
  readonly pq: MlKemParameterSet;
  readonly hsm: Extract<HsmKeySpec, { use: 'derive' }>;
}

/** A composite signature: ML-DSA and a classical one. */
export interface CompositeSuite extends SignatureSuite {
  readonly pq: MlDsaParameterSet;
  readonly hsm: Extract<HsmKeySpec, { use: 'sign' }>;
}

/** Discriminate by `kind`. */
export type Suite = KemSuite | AeadSuite | SignatureSuite | MacSuite;
export type WrapSuite = KemSuite | AeadSuite;

/** The purposes that a suite may be created for. */
export function purposesOf(suite: Suite): readonly Purpose[] {
  return suite.kind === 'kem' ? ['wrap', 'kem'] : [suite.class];
}

/** A KEM of both halves, by its row alone. */
export function isHybridKem(suite: Suite): suite is HybridKemSuite {
  return suite.kind === 'kem' && suite.pq !== null && suite.hsm !== null;
}

/**
 * Whether a Kubernetes provider may seal with it: the service alone can have made what it wraps, and no half of
 * a key stands by itself.
 */
export const isProviderSuite = (suite: Suite): boolean =>
  suite.kind === 'aead' || isHybridKem(suite);

export function isComposite(suite: Suite): suite is CompositeSuite {
  return suite.kind === 'signature' && suite.pq !== null && suite.hsm !== null;
}
