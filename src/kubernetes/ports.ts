/**
 * What the KMS v2 service asks of Twofold. It is implemented twice: inside the server over the keyring,
 * and in the agent over REST.
 *
 * Failures are `TwofoldError`s; `ERRORS` says what they are in gRPC, and which may pass by themselves. Once
 * its signal aborts nobody waits for a call any more: it ends if it can, and a secret that it still gives
 * is wiped by whoever made the call.
 */
import type { AuditDraft } from '../audit/ports.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import type { TwofoldError } from '../errors.ts';

/**
 * Of a version, for one provider: `pending` until every instance has confirmed that it decrypts with it,
 * `active` from its announcement on, `retired` once the operator has proved that nothing stored names it.
 */
export type ProviderVersionState = 'pending' | 'active' | 'retired';

export interface ProviderVersion {
  readonly version: number;
  readonly state: ProviderVersionState;
}

/** Where a provider stands. */
export interface ProviderState {
  /** UUID of the key. */
  readonly keyId: string;
  /** The key's own name, however the configuration refers to it. */
  readonly keyName: string;
  /** The version of Status and of each Encrypt; it only rises. */
  readonly announced: number;
  /** Of every version that is not destroyed. */
  readonly versions: readonly ProviderVersion[];
}

/** What a provider once said of itself and never takes back. */
export interface Announced extends Pick<ProviderState, 'keyId' | 'announced'> {
  /** An envelope of the announced version, from when that was told of first; null where none was kept. */
  readonly probe: Uint8Array | null;
}

/** Keeps it for longer than the process lives. */
export interface AnnouncedMemory {
  /** For the operator who has to do with it. */
  readonly place: string;
  /** The latest; null: none. @throws TwofoldError where that cannot be told */
  last(): Promise<Announced | null>;
  /**
   * Before anybody is told of it; one at a time. Never rejects.
   * @returns whether it is kept: else it is called again
   */
  keep(announced: Announced): Promise<boolean>;
}

/** What every value is bound to, as the wrap's encryption context. */
export type ValueContext = Readonly<Record<string, string>>;

export interface WrapRequest {
  /** Stays the caller's to wipe. */
  readonly plaintext: SecretBytes;
  readonly keyVersion: number;
  readonly context: ValueContext;
  /** The API server's name for the call (`uid`), for the audit entry; null for the provider's own. */
  readonly uid: string | null;
}

export interface UnwrapRequest {
  /** A whole envelope, its bytes. */
  readonly envelope: Uint8Array;
  readonly context: ValueContext;
  readonly uid: string | null;
}

/** A call that is refused before the service is asked anything. */
export interface Refused {
  readonly operation: 'wrap' | 'unwrap';
  /** What its value would be bound to, as far as that is known. */
  readonly context: ValueContext;
  readonly uid: string;
  readonly failure: TwofoldError;
}

export interface Unwrapped {
  /** Owned by the caller, who wipes it. */
  readonly plaintext: SecretBytes;
  /** Of `anyone` nothing is answered. */
  readonly origin: 'anyone' | 'service';
}

export interface KeyService {
  /** A question to the service, never a remembered answer. */
  state(signal: AbortSignal): Promise<ProviderState>;

  /** An envelope's bytes, of the named version and origin `service`. */
  wrap(request: WrapRequest, signal: AbortSignal): Promise<Uint8Array>;

  unwrap(request: UnwrapRequest, signal: AbortSignal): Promise<Unwrapped>;

  /**
   * Leaves a trace of a refused call, as every other has one: who plants a value in etcd is seen.
   * @throws TwofoldError the failure itself; or why it can have no trace, which is then the refusal
   */
  refuse(refused: Refused, signal: AbortSignal): Promise<never>;
}

/** What the calls of API servers count against, inside the server. */
export interface UseCounts {
  /**
   * Counts one call.
   * @returns gives it back, where the call came to nothing for the service's own fault
   * @throws TwofoldError rate_limited, integrity_failed, database_unavailable
   */
  count(): Promise<() => void>;
  /** The limit that refused a call; null for what is no such refusal. */
  limitOf(failure: TwofoldError): string | null;
  /** Whether a refusal is one of many that are written as a sum; else it needs an entry of its own. */
  isSummed(refusal: TwofoldError, draft: AuditDraft): boolean;
}
