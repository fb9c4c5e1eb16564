/**
 * What a client asks of the service. `http-key-service.ts` asks it over HTTP.
 *
 * Every call can be repeated without harm. Rejects with ClientError: the service's own code,
 * `service_unreachable` or `unexpected_answer`.
 */
import type { SecretBytes } from '../crypto/secret.ts';

/** What a wrap is bound to; given again to open it. */
export interface Binding {
  readonly aad: Uint8Array;
  readonly encryptionContext: Readonly<Record<string, string>>;
}

export interface DataKey {
  /** The caller wipes it. */
  readonly plaintext: SecretBytes;
  readonly envelope: Uint8Array;
}

export interface SignRequest {
  /** SHA-512 of the message. */
  readonly digest: Uint8Array;
  readonly signatureContext: Uint8Array;
  readonly keyVersion: number;
}

export interface Rewrapped {
  readonly envelope: Uint8Array;
  /** False when the envelope was at the primary version already. */
  readonly changed: boolean;
}

/** Keys are named by name or UUID. */
export interface KeyService {
  /** The description of the primary version, as `parseSigner` takes it. */
  publicKey(key: string): Promise<unknown>;
  createDataKey(key: string, bytes: number, binding: Binding): Promise<DataKey>;
  /** `plaintext` stays the caller's. */
  wrap(key: string, plaintext: SecretBytes, binding: Binding): Promise<Uint8Array>;
  /** The caller wipes the answer. */
  unwrap(key: string, envelope: Uint8Array, binding: Binding): Promise<SecretBytes>;
  rewrap(key: string, envelope: Uint8Array, binding: Binding): Promise<Rewrapped>;
  sign(key: string, request: SignRequest): Promise<Uint8Array>;
}
