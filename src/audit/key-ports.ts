/** What the keys of the log's checkpoints ask of the rest. Rows come back with their MAC unverified. */
import type { SecretBytes } from '../crypto/secret.ts';
import type { TokenMaterial } from '../hsm/port.ts';

export type LogKeyKind = 'ed25519' | 'ml-dsa-44';

/**
 * `pending`: waits until the log says that it is trusted; `active`: signs; `retiring`: signs no more,
 * and the log does not say so yet; `retired`: its private half is gone.
 */
export type LogKeyState = 'pending' | 'active' | 'retiring' | 'retired';

/** A seed under `root-seal`. */
export interface SealedSeed {
  readonly custody: 'sealed';
  readonly generation: number;
  readonly sealed: Uint8Array;
}

/** A token object; its public key is the row's. */
export type LogTokenKey = Omit<TokenMaterial, 'check'>;

export interface LogKey {
  readonly id: string;
  readonly zone: string;
  readonly kind: LogKeyKind;
  /** 32 bytes (RFC 8032) or 1,312 (FIPS 204). */
  readonly publicKey: Uint8Array;
  readonly state: LogKeyState;
  /** No key that was trusted before announces it: only who pins it trusts it. So are a log's first. */
  readonly pinned: boolean;
  /** Null once it is retired. */
  readonly material: LogTokenKey | SealedSeed | null;
  /** Id of the entry that announces it. */
  readonly announced: string | null;
  readonly createdAt: Date;
  readonly activatedAt: Date | null;
  readonly retiredAt: Date | null;
  readonly revision: number;
}

/** The log's name, which all its keys have; for life. */
export interface LogName {
  readonly origin: string;
  readonly createdAt: Date;
}

/** A row and the MAC by `root-mac` over its canonical form; as `keyring/attested.ts`. */
export interface WithMac<T> {
  readonly value: T;
  readonly mac: Uint8Array;
}

export interface StoredLogKeys {
  /** Null before the log has keys. */
  readonly name: WithMac<LogName> | null;
  /** By time of making. */
  readonly keys: readonly WithMac<LogKey>[];
}

/** A pair to insert; `objectId` is the intent that it completes. */
export interface NewLogKeys {
  readonly rows: readonly WithMac<LogKey>[];
  readonly objectId: Uint8Array | null;
}

export interface LogKeyUpdate {
  readonly row: WithMac<LogKey>;
  /** The revision that was read. */
  readonly expected: number;
}

/** Implemented by `store/log-key-store.ts`. */
export interface LogKeyStore {
  /** One snapshot, in a read that commits: an old primary cannot answer. */
  read(): Promise<StoredLogKeys>;
  /**
   * The pair, all or nothing; with `name` it is the log's first.
   * @throws TwofoldError conflict when others were faster, or the intent was abandoned
   */
  make(name: WithMac<LogName> | null, pair: NewLogKeys): Promise<void>;
  /** All or nothing. @throws TwofoldError conflict when a revision moved */
  update(updates: readonly LogKeyUpdate[], removals: readonly TokenRemoval[]): Promise<void>;
}

/** An attested intent to remove a token object, as `keyring/ports.ts` has it. */
export type TokenRemoval = WithMac<{
  readonly objectId: Uint8Array;
  readonly installation: string;
  readonly tokenSerial: string;
  readonly instance: string;
  readonly createdAt: Date;
}>;

/** The root, as it seals seeds. */
export interface LogSeals {
  readonly installation: string;
  readonly mac: (data: Uint8Array, like?: Uint8Array) => Promise<Uint8Array>;
  /** `seed` stays the caller's to wipe. */
  seal(seed: SecretBytes, keyId: string): Promise<SealedSeed>;
  /** The caller wipes. @throws TwofoldError integrity_failed, zone_lacks_material */
  unseal(seed: SealedSeed, keyId: string): Promise<SecretBytes>;
}

/** Intents of token objects: durable before an object is made or removed (`keyring/orphans.ts`). */
export interface LogTokenIntents {
  /** The id of the object to make. */
  toMake(keyId: string): Promise<Uint8Array>;
  /** Attested, for the transaction that gives the object up. */
  toRemove(object: LogTokenKey): Promise<TokenRemoval>;
  drop(objectId: Uint8Array): Promise<void>;
}

/** As `GET /v1/audit/keys` shows it. */
export interface ListedLogKey extends Omit<LogKey, 'material'> {
  readonly vkey: string;
  /** Where the private half is; null once it is gone. */
  readonly custody: 'hsm-token' | 'sealed' | null;
}

/** A pair to insert in a change of its own. */
export interface NewPair {
  readonly keys: readonly ListedLogKey[];
  readonly pair: NewLogKeys;
  /** Never rejects. */
  readonly discard: () => Promise<void>;
}

/** The log's keys as administrators see them. */
export interface LogKeySet {
  /** The name of the log, which all its keys have. */
  readonly origin: string;
  /** All keys that there ever were, by time of making; read now. */
  list(): Promise<readonly ListedLogKey[]>;
  /**
   * The pair that follows this zone's. `lost`: no key that was trusted can announce it, so that it
   * signs as soon as it is there, and everyone who verifies has to pin it.
   * @throws TwofoldError conflict when one waits already
   */
  next(lost: boolean): Promise<NewPair>;
}
