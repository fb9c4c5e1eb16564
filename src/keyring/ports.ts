/**
 * What the keyring asks of its storage. Implemented by `store/` on PostgreSQL.
 *
 * Rows come back with their MAC unverified: the keyring checks it (`row-mac.ts`) before it decides on them.
 */
import type { NewLogKeys } from '../audit/key-ports.ts';
import type { CommitOutcome, PreparedEntry } from '../audit/ports.ts';
import type { ApprovalWrite } from './approval-ports.ts';
import type { Attested } from './attested.ts';
import type { NewEvent } from './event-ports.ts';
import type { UsedImports } from './import-ports.ts';
import type { Usage } from './lifecycle.ts';
import type { OrderReads } from './order-ports.ts';
import type { Key, KeyVersion, Tombstone } from './model.ts';
import type { Pause } from './rotation-policy.ts';
import type { SelectorPolicy } from './selector-policy.ts';
import type { SetWrite } from './set-ports.ts';

export type { Attested } from './attested.ts';
export type { RootGeneration, RootStore } from './root-store-port.ts';

/** One row to write. Updates are compare-and-swap on `expected`, the revision that was read. */
export type KeyWrite =
  | SetWrite
  | ApprovalWrite
  /** The generation is in force from then on, and the one before it retiring; `conflict` where it cannot be. */
  | {
      readonly kind: 'begin-root-rotation';
      readonly generation: number;
      readonly operation: StoredOperation;
    }
  /** Nothing is left to move; `conflict` where the operation moved. */
  | {
      readonly kind: 'end-root-rotation';
      readonly write: Extract<OperationWrite, { readonly kind: 'advance' }>;
    }
  /** Nothing is under the generation any more; `conflict` where something is. */
  | { readonly kind: 'retire-root-generation'; readonly generation: number }
  | { readonly kind: 'insert-key'; readonly row: Attested<Key> }
  | { readonly kind: 'update-key'; readonly row: Attested<Key>; readonly expected: number }
  | { readonly kind: 'insert-version'; readonly row: Attested<KeyVersion> }
  | {
      readonly kind: 'update-version';
      readonly row: Attested<KeyVersion>;
      readonly expected: number;
    }
  /** Import parameters, once only: `import_parameters_used`. */
  | { readonly kind: 'use-import'; readonly id: string; readonly expiresAt: Date }
  /** The text whose SHA-256 the version's row has; an existing one is replaced. */
  | {
      readonly kind: 'put-certificate-chain';
      readonly keyId: string;
      readonly version: number;
      readonly pem: string;
    }
  | {
      readonly kind: 'delete-certificate-chain';
      readonly keyId: string;
      readonly version: number;
    }
  /** A token object that the change takes from its version: it is removed once that is committed. */
  | { readonly kind: 'intend-removal'; readonly row: Attested<TokenIntent> }
  /** The change takes effect only while this instance leads in this term. */
  | {
      readonly kind: 'hold-leadership';
      readonly role: string;
      readonly term: number;
      readonly holder: string;
    }
  /** Why the change was made, once for each (key, policy revision, action, due time): `conflict`. */
  | {
      readonly kind: 'insert-run';
      readonly keyId: string;
      readonly policyRevision: number;
      readonly action: string;
      readonly dueAt: Date;
      readonly cause: string | null;
      readonly version: number | null;
      readonly doneAt: Date;
      readonly term: number;
    }
  /** Settles a key of an order, once; only while the order runs, which lives on until `expiresAt`: `conflict`. */
  | {
      readonly kind: 'rotate-by-order';
      readonly operationId: string;
      readonly keyId: string;
      readonly version: number;
      readonly at: Date;
      readonly expiresAt: Date;
    }
  /** What followers are told; its place is the epoch that the change makes. */
  | { readonly kind: 'insert-event'; readonly event: NewEvent }
  | { readonly kind: 'put-rotation-policy'; readonly row: Attested<NamespacePolicy> }
  | {
      readonly kind: 'delete-rotation-policy';
      readonly namespace: string;
      readonly name: string;
    }
  /** The set as it is after the change; `expected` is its revision before, 0 when there was none. */
  | {
      readonly kind: 'put-policy-set';
      readonly row: Attested<PolicySetSeal>;
      readonly expected: number;
    }
  /** The change takes effect only while the set of policies is at this revision: `conflict`. */
  | {
      readonly kind: 'require-policy-set';
      readonly namespace: string;
      readonly revision: number;
    }
  /** A pair that signs checkpoints, with the outcome of its token object's intent: `conflict`. */
  | { readonly kind: 'insert-log-keys'; readonly pair: NewLogKeys }
  /** The outcome of a token-object intent: the object now belongs to a version. */
  | { readonly kind: 'complete-intent'; readonly objectId: Uint8Array };

/** A policy that a namespace gives to its keys. */
export interface NamespacePolicy extends SelectorPolicy {
  readonly namespace: string;
}

/** Stands for all policies of a namespace at once. */
export interface PolicySetSeal {
  readonly namespace: string;
  /** Rises with each change of any of them. */
  readonly revision: number;
  /** SHA-256 over the canonical forms of all, in the order of their names. */
  readonly hash: Uint8Array;
  /** While set, what policies ask for waits, in the whole namespace. */
  readonly paused: Pause | null;
}

export interface StoredPolicySet {
  /** Null while the namespace never had a policy. */
  readonly seal: Attested<PolicySetSeal> | null;
  /** In byte order of their names. */
  readonly policies: readonly Attested<NamespacePolicy>[];
}

export interface PolicyStore {
  /**
   * One snapshot of all policies of a namespace, read as `KeyStore.find` reads; nothing is verified.
   * Throws `integrity_failed` for rows that mean nothing, `database_unavailable`.
   */
  policies(namespace: string, epoch: number): Promise<StoredPolicySet>;
}

/** Stored with the effect, so that a repeated request is answered from here. */
export interface IdempotencyRecord {
  readonly namespace: string;
  /** `issuer subject` hash, so that one caller's key says nothing about another's. */
  readonly principal: Uint8Array;
  readonly key: string;
  /** SHA-256 over method, path and canonical body. */
  readonly requestHash: Uint8Array;
  readonly status: number;
  /** The answer's JSON, without secrets. */
  readonly body: string;
  /** The audit id of the request that took effect. */
  readonly auditId: string;
}

export interface ChangeCommit {
  /** Epoch under which the change was authorized; a later one makes the commit answer `stale`. */
  readonly epoch: number;
  readonly writes: readonly KeyWrite[];
  readonly entry: PreparedEntry;
  readonly scope: {
    readonly scope: 'key' | 'access';
    readonly namespace: string;
    readonly keyId: string | null;
    readonly keyName: string | null;
    /** Further names and ids of the namespace that the change touches. */
    readonly also?: readonly string[];
  };
  readonly idempotency: Attested<IdempotencyRecord> | null;
}

export interface KeyQuery {
  readonly namespace: string;
  readonly pageSize: number;
  /** Names after this one, in byte order. */
  readonly afterName: string | null;
  readonly namePrefix: string | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly suite: number | null;
  /** Key state as shown by the API. */
  readonly state: 'enabled' | 'suspended' | 'pending-destruction' | 'destroyed' | null;
}

export interface KeyName {
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
}

export interface StoredKey {
  readonly key: Attested<Key>;
  /** All versions, ascending. */
  readonly versions: readonly Attested<KeyVersion>[];
}

/** A key as lists show it. */
export interface ListedKey {
  readonly key: Attested<Key>;
  /**
   * Ascending: the primary version, and of a list by suite the newest version of that suite that is
   * not destroyed. Not all, of which there may be any number.
   */
  readonly versions: readonly Attested<KeyVersion>[];
}

export interface KeyPage {
  /** By name in byte order, at most as many as were asked for. */
  readonly keys: readonly ListedKey[];
  /**
   * The `afterName` of the next page; null at the end. A page of several filters may be short of keys,
   * even empty, before the end: it looks at so many candidates and no more.
   */
  readonly next: string | null;
}

/** A token object that is being made, or is to be removed. */
export interface TokenIntent {
  readonly objectId: Uint8Array;
  readonly installation: string;
  readonly tokenSerial: string;
  /** The instance that makes or removes it. */
  readonly instance: string;
  readonly createdAt: Date;
}

/** Where a key is to be found. */
export interface KeyPlace {
  readonly id: string;
  readonly namespace: string;
}

export interface KeyStore extends UsedImports {
  /**
   * By name or alias, or by UUID; one consistent snapshot of key and versions, read at `epoch` or a later
   * security epoch and in a transaction that commits, which no old primary can: `database_unavailable`.
   */
  find(
    namespace: string,
    ref: { readonly name: string } | { readonly id: string },
    epoch: number,
  ): Promise<StoredKey | null>;
  list(query: KeyQuery): Promise<KeyPage>;
  /**
   * Keys of every namespace in the order of their ids, from the first after `after` (null: the first).
   * Nothing is verified: it says where to look, and no more.
   */
  places(after: string | null, limit: number): Promise<readonly KeyPlace[]>;
  /** Whether the namespace has a key that is not destroyed; the rows are not verified. */
  hasLivingKeys(namespace: string): Promise<boolean>;
  /** The stored PEM, unverified: its SHA-256 stands in the version's row. */
  certificateChain(keyId: string, version: number): Promise<string | null>;
  tombstones(keyId: string): Promise<readonly Tombstone[]>;
  /** The time by which the database judges destructions; null where it leaves them to the servers' clocks. */
  wallClock(): Promise<Date | null>;
  /**
   * Names of the namespace's keys that say that they are published, the first `limit`, read as `find` reads.
   * Nothing is verified: a name says where to look, and no more.
   */
  published(namespace: string, epoch: number, limit: number): Promise<readonly KeyName[]>;
  /** How many say so, suspended ones too, and at most `limit`. */
  countPublished(namespace: string, limit: number): Promise<number>;
  /**
   * Effect, audit entry, `security_change` and the raised epoch in one transaction under the
   * exclusive barrier. `stale`: nothing was written. Throws `key_exists`, `name_retired`,
   * `conflict` (revision moved), `idempotency_in_progress`, `database_unavailable`; `LaneLost` when
   * the entry's (lane, n) is taken by another leaf or its lane is closed (nothing was written); or
   * `OutcomeUnknown` (both src/outcome.ts), which the audit log resolves by (lane, n).
   */
  commit(change: ChangeCommit): Promise<CommitOutcome>;
  /** What it tells is committed by all the database's rules, and not merely seen. */
  findIdempotent(
    namespace: string,
    principal: Uint8Array,
    key: string,
  ): Promise<Attested<IdempotencyRecord> | null>;
  /**
   * Reserves `block` uses, or an eighth of what a policy leaves and `least` at least: the first (0-based), how many.
   * Counters are exempt from row MACs: a lowered counter is a stated residual risk.
   */
  reserveUses(counter: string, block: number, least?: number): Promise<readonly [number, number]>;
  /** The counters that have passed `limit`, the highest first, `most` at most. */
  countersAbove(limit: number, most: number): Promise<readonly UseCounter[]>;
  /** Durable before a token object is made, so that a crash leaves a trace of what to remove. */
  intendTokenObject(intent: Attested<TokenIntent>): Promise<void>;
  /** Claims intents of one token whose instance is closed, fenced or dead: it completes none, their objects are orphans. */
  abandonIntents(
    installation: string,
    tokenSerial: string,
  ): Promise<readonly Attested<TokenIntent>[]>;
  dropIntent(objectId: Uint8Array): Promise<void>;
}

export interface UseCounter {
  /** `<key UUID>/<version>`, or of the root. */
  readonly counter: string;
  /** Uses that were reserved, some of which may never have happened. */
  readonly used: number;
}

/** Successful uses that are one row: of one version, in one way, by one principal. */
export interface UseSum {
  readonly keyId: string;
  readonly version: number;
  readonly usage: Usage;
  /** Both empty: everyone beyond those that an instance tells apart. */
  readonly issuer: string;
  readonly subject: string;
  readonly uses: number;
  readonly firstAt: Date;
  readonly lastAt: Date;
}

/** What an instance counted since its last flush. */
export interface UseBatch {
  readonly instance: string;
  /** 1 for the first of the instance, then always higher. */
  readonly number: number;
  readonly sums: readonly UseSum[];
}

/** All uses of one version in one way. */
export type UsageTotal = Pick<UseSum, 'version' | 'usage' | 'uses' | 'firstAt' | 'lastAt'>;

/** Where a page of principals goes on: after the row of this number, last used then. */
export interface AfterUser {
  readonly lastAt: Date;
  readonly id: string;
}

type UserSums = readonly Omit<UseSum, 'version'>[];

/** Sums of uses. Statistics without a row MAC, on which nothing is decided but by people. */
export interface UseStore {
  /**
   * Adds the sums, at most once for each (instance, number), however often it is sent and whatever
   * became of it before. Throws `database_unavailable` when that is to be sent again, `internal`
   * when the database refuses it for good.
   */
  addUses(batch: UseBatch): Promise<void>;
  /** Of the versions `from` to `until`, and since when uses are counted in this database. */
  usesOf(
    keyId: string,
    versions: { readonly from: number; readonly until: number },
  ): Promise<{ readonly countedSince: Date; readonly totals: readonly UsageTotal[] }>;
  /** Of one version, the most recent use first. `id` numbers the row, for the next page. */
  usersOf(
    keyId: string,
    version: number,
    page: { readonly limit: number; readonly after: AfterUser | null },
  ): Promise<readonly (UseSum & { readonly id: string })[]>;
  /** Sums over these versions for each user and usage, the most recent use first. */
  usersOfAll(keyId: string, versions: readonly number[], limit: number): Promise<UserSums>;
  /** The counters of a key's versions. `prefix` is the beginning of their names, before the number. */
  countersOf(prefix: string): Promise<readonly UseCounter[]>;
}

/** What an operation is; the same for ever, and what its MAC covers. */
export interface OperationIdentity {
  readonly id: string;
  /** `rewrap`, `rotation`, and whatever else takes longer than one request. */
  readonly kind: string;
  readonly namespace: string;
  /** The key that it is about; null for one that is about none or many. */
  readonly keyId: string | null;
  /** What was asked for, in the words of its kind. */
  readonly request: Readonly<Record<string, string | number | boolean | null>>;
  /** Who made it. */
  readonly issuer: string;
  readonly subject: string;
  /** Items a second, over all instances. */
  readonly rate: number;
  readonly createdAt: Date;
}

/** How far it is. Exempt from row MACs: it permits nothing, and changes with every step. */
export interface OperationProgress {
  readonly state: 'running' | 'succeeded' | 'failed' | 'cancelled';
  /** Why it was cancelled or failed; null otherwise. */
  readonly reason: string | null;
  /** Items that are done, from the first on. Never falls. */
  readonly position: number;
  /** Counts of its kind. */
  readonly counts: Readonly<Record<string, number>>;
  readonly updatedAt: Date;
  /** A running one takes no further steps from then on. */
  readonly expiresAt: Date;
  /** Rises by one with each step. */
  readonly revision: number;
}

export interface StoredOperation {
  readonly identity: Attested<OperationIdentity>;
  readonly progress: OperationProgress;
}

export type OperationWrite =
  /** `running`: how many the principal may have at a time. */
  | { readonly kind: 'insert'; readonly operation: StoredOperation; readonly running: number }
  /** Compare-and-swap on `expected`, the revision that was read. */
  | {
      readonly kind: 'advance';
      readonly id: string;
      readonly progress: OperationProgress;
      readonly expected: number;
    };

export interface OperationCommit {
  /** Epoch under which the step was authorized; another one makes the commit answer `stale`. */
  readonly epoch: number;
  readonly write: OperationWrite;
  readonly entry: PreparedEntry;
  readonly idempotency: Attested<IdempotencyRecord> | null;
}

export interface OperationQuery {
  readonly namespace: string;
  readonly kind: string | null;
  /** `expired`: running, and silent until `now`. */
  readonly state: OperationProgress['state'] | 'expired' | null;
  readonly now: Date;
  /** Only those of one principal. */
  readonly creator: { readonly issuer: string; readonly subject: string } | null;
  readonly pageSize: number;
  /** Older than this one; newest come first. */
  readonly after: { readonly createdAt: Date; readonly id: string } | null;
}

/** Operations of every kind. Rows come back with their MAC unverified. */
export interface OperationStore extends OrderReads {
  /** Read in a transaction that commits, which no old primary can. */
  find(namespace: string, id: string): Promise<StoredOperation | null>;
  list(query: OperationQuery): Promise<readonly StoredOperation[]>;
  /**
   * Takes the time of so many items at the operation's rate: 0, or the milliseconds after which to
   * ask again, and nothing was taken. Instances share the rate.
   */
  pace(id: string, items: number): Promise<number>;
  /**
   * The step and its audit entry in one transaction, under the epoch barrier as an append is; the
   * epoch stays. Throws as `KeyStore.commit`: `conflict` when the revision moved; `quota_exceeded`.
   */
  commit(step: OperationCommit): Promise<CommitOutcome>;
}
