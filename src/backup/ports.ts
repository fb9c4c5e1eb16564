/** What a backup asks of the database, and what it is about. */
import { TwofoldError } from '../errors.ts';

/** Audit entries in a backup: all, or those behind the last full tile, which the tree goes on from, and those without an index. */
export type EntriesKept = 'tail' | 'all';

/** A table of the snapshot; columns in the order of the table. */
export interface KeptTable {
  readonly name: string;
  readonly columns: readonly string[];
}

export interface SnapshotFacts {
  /** The database's clock at the snapshot. */
  readonly takenAt: Date;
  /** Names of the migrations that are applied, sorted. */
  readonly migrations: readonly string[];
  /** Highest id of a lane, so that no later lane has an id that was used. */
  readonly lastLane: number;
  readonly log: { readonly size: number; readonly root: Uint8Array; readonly note: string | null };
  readonly generations: readonly { readonly generation: number; readonly installation: string }[];
  readonly origin: string | null;
  readonly escrows: readonly StoredEscrow[];
}

/** Another process takes one; nothing is wrong with this one. */
export class AnotherBackup extends TwofoldError {
  constructor() {
    super('conflict', 'Another backup is being taken.');
  }
}

/** A root wrapped for a recovery key: `hsm/ceremony-transport.ts` says of what. */
export interface StoredEscrow {
  readonly generation: number;
  readonly installation: string;
  readonly publicKey: Uint8Array;
  readonly point: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly wrapped: Uint8Array;
  readonly transcript: Uint8Array;
  /** By `root-mac` (`escrow-mac.ts`); null in rows from before there were any. */
  readonly mac: Uint8Array | null;
}

/** One consistent state of the database; held until closed. */
export interface Snapshot {
  readonly facts: SnapshotFacts;
  readonly tables: readonly KeptTable[];
  /** Rows as JSON, a line each, some hundred at a time. */
  rows(table: KeptTable): AsyncIterable<readonly string[]>;
  close(): Promise<void>;
}

/** What was restored, as `restoration` has it. */
export interface Restoration {
  readonly backup: string;
  readonly state: 'loaded' | 'verified' | 'announced';
  readonly takenAt: Date;
  readonly restoredAt: Date;
  readonly logSize: number;
  readonly logRoot: Uint8Array;
}

/** Where a list of them goes on. */
export type BackupPlace = Pick<BackupRow, 'createdAt' | 'id'>;

/** That one was asked for under an idempotency key. */
export interface BackupRequest {
  readonly key: string;
  /** SHA-256 of what was asked. */
  readonly hash: Uint8Array;
}

export interface BackupRow {
  readonly id: string;
  readonly state: 'running' | 'complete' | 'failed';
  /** Null: the schedule asked for it. */
  readonly requestedBy: { readonly issuer: string; readonly subject: string } | null;
  readonly createdAt: Date;
  readonly endedAt: Date | null;
  /** Name of its folder within the configured one. */
  readonly place: string;
  readonly entries: EntriesKept;
  readonly bytes: number | null;
  readonly rows: number | null;
  readonly keys: number | null;
  readonly logSize: number | null;
  /** Why it failed: an error code. */
  readonly problem: string | null;
}
