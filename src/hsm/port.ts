/**
 * What the rest of the service asks of an HSM. The contract of two implementations: PKCS#11 worker
 * threads (`hsm/`) and the software port of the tests; one conformance suite runs on both.
 *
 * Every call is asynchronous, bounded by a deadline and a queue, and fails with
 * `hsm_busy` (queue full, retry later), `hsm_unavailable` (no session or no device),
 * `hsm_full` (no room on the token), `suite_unavailable_here` (mechanism missing),
 * `zone_lacks_material` (a token key of another token, or a root generation that is not here), or
 * `integrity_failed` (a wrapped key does not open, or does not match its recorded check value).
 * Only `decrypt`, an item of `decryptMany` and `decryptOaep` fail with `decryption_failed`, for what the
 * caller sent: a token that fails a call for reasons of its own is `hsm_unavailable`.
 *
 * Buffers passed in stay the caller's; buffers returned are the caller's to wipe.
 */
import type { HsmKeySpec } from '../crypto/hsm-key.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import type { Settled } from '../settled.ts';

export type { HsmHash, HsmKeySpec, RsaBits } from '../crypto/hsm-key.ts';

/** Made in the HSM, stored outside only wrapped by `root-wrap` of `generation`. */
export interface WrappedMaterial {
  readonly custody: 'hsm-wrapped';
  readonly generation: number;
  /** CKM_AES_KEY_WRAP_PAD output (PKCS#8 for private keys, the raw value for AES and HMAC). */
  readonly blob: Uint8Array;
  /** Compared after every unwrap: the raw public key, or the key check value of a secret key. */
  readonly check: Uint8Array;
}

/** A token object; lives and dies with one token. */
export interface TokenMaterial {
  readonly custody: 'hsm-token';
  readonly tokenSerial: string;
  /** UUID of the installation that made the object; foreign objects are never touched. */
  readonly installation: string;
  /** CKA_ID. */
  readonly objectId: Uint8Array;
  readonly check: Uint8Array;
}

export type HsmMaterial = WrappedMaterial | TokenMaterial;

/**
 * A key to operate with. `id` names it in handle caches: the same id always means the same key, whichever
 * root wraps it.
 */
export interface HsmKey {
  readonly id: string;
  readonly spec: HsmKeySpec;
  readonly material: HsmMaterial;
}

export interface HsmCapability {
  /**
   * The use: `ecdh:<curve>`, `ecdsa:<curve>`, `x25519`, `ed25519`, `rsa-pss:<hash>`, `rsa-pkcs1:<hash>`,
   * `rsa-oaep:SHA-256`, `aes-gcm`, `hmac:<hash>`, `random`; `wrap` of secret keys, `wrap:ec` and `wrap:rsa`
   * of private ones.
   */
  readonly name: string;
  readonly available: boolean;
  /** Why not, in words for an operator; empty when available. */
  readonly reason: string;
  /**
   * How it was checked at start: against a published answer, or (tokens that import no keys, which make
   * one of their own for it, and randomised mechanisms) against an independent implementation.
   */
  readonly checked?: 'known-answer' | 'consistency';
  /** Which mechanism serves it, where more than one can: `rsa-oaep` by CKM_RSA_PKCS_OAEP or CKM_RSA_X_509. */
  readonly mechanism?: string;
}

export interface HsmStatus {
  readonly ready: boolean;
  /**
   * Stable words: `ok`, `starting`, `session-lost`, `pin-refused` (also a PIN file that cannot be
   * used), `token-absent`, `self-test-failed`, `closed`.
   */
  readonly state: string;
  readonly detail: string;
  /** Rises with every (re-)initialisation; handles of an earlier epoch are never used. */
  readonly tokenEpoch: number;
  readonly token: {
    readonly serial: string;
    readonly label: string;
    readonly model: string;
    readonly manufacturer: string;
    readonly firmware: string;
  } | null;
  /** Whether the root carries the templates of a root that the PIN alone cannot extract. */
  readonly custody: 'non-extractable' | 'extractableByPinHolder' | 'unknown';
  readonly capabilities: readonly HsmCapability[];
  /** What the attacks on the selected root came to; null where it was not attacked. */
  readonly rootAttacks: readonly RootAttack[] | null;
}

/** `unknown`: the token failed in a way that tells nothing, so custody cannot be `non-extractable`. */
export interface RootAttack {
  readonly name: string;
  readonly outcome: 'refused' | 'allowed' | 'unknown';
  /** What the token answered; empty where that is what it should answer. */
  readonly detail: string;
}

/** A `root-wrap` object found on the token. */
export interface RootOnToken {
  readonly generation: number;
  readonly installation: string;
}

export interface GenerateOptions {
  readonly custody: 'hsm-wrapped' | 'hsm-token';
  /** CKA_ID for `hsm-token`: 37 bytes, of which the first 16 are the installation's UUID. */
  readonly objectId?: Uint8Array;
}

/** A key that arrives from outside; see docs/import.md for the construction. */
export interface WrappedImport {
  /** The importing key: deriving, on P-256, with a `WrappedMaterial`. */
  readonly key: HsmKey;
  /** The importer's ephemeral public key, an uncompressed point. */
  readonly peer: Uint8Array;
  /** 32 bytes: what is encrypted under the shared secret to become the wrapping key. */
  readonly derivation: Uint8Array;
  /** CKM_AES_KEY_WRAP_PAD under the wrapping key: PKCS #8 of a private key, or the secret itself. */
  readonly blob: Uint8Array;
  /** The raw public key, with which the private one is compared by use; null for secrets. */
  readonly publicKey: Uint8Array | null;
}

export interface MacOptions {
  /** Goes ahead of what waits: many answers wait for the MAC of one audit batch. */
  readonly urgent?: boolean;
}

/** One item of `encryptMany`. */
export interface ToEncrypt {
  readonly plaintext: Uint8Array;
  readonly aad: Uint8Array;
}

/** One item of `rewrap`. */
export interface ToRewrap {
  readonly spec: HsmKeySpec;
  readonly material: WrappedMaterial;
}

/** AES-GCM output; the tag is the end of `ciphertext`. */
export interface Encrypted {
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array;
}

/** One item of `decryptMany`. */
export interface ToDecrypt extends Encrypted {
  readonly aad: Uint8Array;
}

export interface Hsm {
  status(): HsmStatus;
  roots(): Promise<readonly RootOnToken[]>;
  /** Whether the token says that a database has held the roots of this installation (`noteUse`). */
  isUsed(installation: string): Promise<boolean>;
  /**
   * Leaves on the token that a database holds the roots of this installation, so that a later start beside an
   * empty one is known for what it is. Idempotent. A token that keeps no such object is told in the log alone.
   */
  noteUse(installation: string): Promise<void>;
  /**
   * Selects the generation that wraps new keys and unwraps old ones; fails when it is not on the token, and
   * with `integrity_failed` when it does not open `known`, which was wrapped under it, or is a later one than
   * the selected one and weaker: whoever has the PIN can put an object of their own in its place.
   */
  useRoot(root: RootOnToken, known?: ToRewrap): Promise<void>;
  /**
   * Tries what another root allows, as `useRoot` does, and selects nothing: old keys of every generation
   * on the token open without being selected.
   */
  tryRoot(root: RootOnToken): Promise<HsmStatus['custody']>;
  /**
   * The same keys under the selected root: unwrapped and wrapped again inside the token, and what was
   * wrapped is unwrapped and compared with the check value before it is answered. Each has its own
   * outcome, in the order of the items. Never rejects.
   */
  rewrap(items: readonly ToRewrap[]): Promise<readonly Settled<WrappedMaterial>[]>;
  /** Makes a key (and, for pairs, checks the pair by use). */
  generate(spec: HsmKeySpec, options: GenerateOptions): Promise<HsmMaterial>;
  /**
   * Unwraps a foreign key inside the token and wraps it under the root, as `generate` would have made it:
   * the host sees neither the key nor what it was wrapped under.
   *
   * @throws TwofoldError import_invalid for what does not open or is of another kind, import_mismatch
   *   for a private key that is not that of the public one
   */
  importKey(spec: HsmKeySpec, wrapped: WrappedImport): Promise<WrappedMaterial>;
  /** Removes a token object of our own; a missing object is no error. */
  destroyTokenKey(material: TokenMaterial): Promise<void>;
  /** Token objects of this installation, for the removal of orphans at start (roots excluded). */
  tokenKeys(installation: string): Promise<readonly TokenMaterial[]>;
  /** Raw ECDH: x-coordinate (32 or 48 bytes) or the X25519 output. `peer` was checked by the caller, and is again. */
  ecdh(key: HsmKey, peer: Uint8Array): Promise<SecretBytes>;
  /**
   * `ec`: ECDSA over the digest `input` of the curve's size (P-521: 64 bytes); r ‖ s of fixed width (64, 96,
   * 132 bytes). `rsa`: over the digest `input` of the key's hash; as long as the modulus. `ed25519`: over
   * the message `input` itself; 64 bytes.
   */
  sign(key: HsmKey, input: Uint8Array): Promise<Uint8Array>;
  /**
   * RSAES-OAEP; the message, of 0 bytes to the modulus' length less 66. Everything that is wrong with
   * `ciphertext` is one `decryption_failed`, without detail.
   */
  decryptOaep(key: HsmKey, ciphertext: Uint8Array): Promise<SecretBytes>;
  /** AES-256-GCM, 12-byte IV chosen by the HSM (random), 16-byte tag at the end of `ciphertext`. */
  encrypt(key: HsmKey, plaintext: Uint8Array, aad: Uint8Array): Promise<Encrypted>;
  decrypt(key: HsmKey, sealed: Encrypted, aad: Uint8Array): Promise<SecretBytes>;
  /**
   * The same for many items under one key, in a few calls of bounded size. Each item has its own
   * outcome, in the order of the items; a call that the token fails for reasons of its own fails the
   * items in it. Rejects for a key that does not encrypt, and for nothing else.
   */
  encryptMany(key: HsmKey, items: readonly ToEncrypt[]): Promise<readonly Settled<Encrypted>[]>;
  decryptMany(key: HsmKey, items: readonly ToDecrypt[]): Promise<readonly Settled<SecretBytes>[]>;
  /** HMAC, full length. */
  mac(key: HsmKey, data: Uint8Array, options?: MacOptions): Promise<Uint8Array>;
  /** The same for many messages, as `encryptMany` does; behind what waits, for nobody waits for it. */
  macMany(key: HsmKey, items: readonly Uint8Array[]): Promise<readonly Settled<Uint8Array>[]>;
  random(bytes: number): Promise<Uint8Array>;
  /** Drops cached handles of a key (destruction, suspension of its unwrapped copy). */
  forget(id: string): Promise<void>;
  close(): Promise<void>;
}
