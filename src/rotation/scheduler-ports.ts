/** What the scheduler asks of others. Implemented by `store/` on PostgreSQL. */
import type { RankedPolicies } from '../keyring/selector-policy.ts';
import type { LeaderStore } from '../leader.ts';
import type { RanBefore } from './scheduled-key.ts';

/** A key to look at; `marks` is what its row said when it was taken up. */
export interface Look {
  readonly keyId: string;
  readonly namespace: string;
  readonly marks: number;
  /** Failed looks in a row so far. */
  readonly failures: number;
  /** Something asked for it, whatever the time. */
  readonly marked: boolean;
}

/** Why a look could not do what is due. */
export interface LookFailure {
  readonly code: string;
  readonly at: Date;
  /** Such as `rotate` or `destroy-version/1`; null: the key could not be looked at. */
  readonly action: string | null;
  /** For whoever may read the key; null of a failure that the release before wrote. */
  readonly detail: string | null;
}

/** What a look found. */
export interface Looked {
  /** When to look next; null: when something changes. */
  readonly nextAt: Date | null;
  /** Protecting uses of the primary at which to look at once; null where none are counted. */
  readonly maxUses: number | null;
  /** Since when what it left for the next look has been due; null where it left nothing. */
  readonly dueAt: Date | null;
  /** Why it could not do what is due; null when it did. */
  readonly failure: LookFailure | null;
}

export interface ScheduledRun {
  readonly keyId: string;
  /** 0 where no policy asked. */
  readonly policyRevision: number;
  /** `identityOf` the action. */
  readonly action: string;
  readonly dueAt: Date;
  readonly cause: string | null;
  /** The version that was made or changed; null for notices. */
  readonly version: number | null;
  readonly doneAt: Date;
  readonly term: number;
}

export interface SchedulerStore extends LeaderStore {
  /**
   * Keys whose time has come, the earliest first, before as many that something asked to look at: those
   * after `afterMarked`, and then from the first one on.
   */
  due(now: Date, limit: number, afterMarked: string | null): Promise<readonly Look[]>;
  /**
   * Asks to look `now` at the next keys of which something is due that was left for later, `limit` at most,
   * in one bounded step through those of `times`. How many, and how far it got; null: to the end.
   */
  bringForward(
    now: Date,
    times: { readonly after: Date; readonly until: Date },
    limit: number,
  ): Promise<{ readonly moved: number; readonly reached: Date | null }>;
  /** Writes what a look found, unless a change has asked for another look since it began. */
  looked(look: Look, found: Looked): Promise<void>;
  /** Asks for a look at the keys after `afterId`, `limit` at most; the last of them, null at the end. */
  markAfter(afterId: string | null, limit: number): Promise<string | null>;
  /** The notices that a key was given, and the retirements of its versions. */
  notices(keyId: string): Promise<readonly RanBefore[]>;
  /** Protecting uses of one version, as reserved. */
  usesOf(keyId: string, version: number): Promise<number>;
}

/** A key's row in the list of times. */
export interface ScheduleRow {
  /** Of the last look; null when it did what was due. */
  readonly failure: StandingFailure | null;
}

export interface StandingFailure extends LookFailure {
  /** Failed looks in a row. */
  readonly count: number;
  /** When the first of them was. */
  readonly since: Date;
  /** When it is tried again; null for at once, or when something changes. */
  readonly nextAttemptAt: Date | null;
}

/** Where a page of runs goes on: after this one. */
export interface RunPosition {
  readonly doneAt: Date;
  readonly action: string;
}

/** A key of which something failed or is late. */
export interface WatchedKey {
  readonly keyId: string;
  readonly keyName: string;
  /** When it failed first in a row, or since when something of it is due. */
  readonly since: Date;
  readonly failure: ScheduleRow['failure'];
  /** When it is looked at next; null for at once, or when something changes. */
  readonly nextAt: Date | null;
}

/** A run beside the name of its key. */
export interface NamedRun extends ScheduledRun {
  readonly keyName: string;
}

/** Where a page of watched keys, or of runs of a namespace, goes on: after this one. */
export interface WatchPosition {
  readonly at: Date;
  readonly keyId: string;
  /** Of a run. */
  readonly action: string;
}

/** @see ScheduleReads */
export interface WatchQuery {
  readonly namespace: string;
  readonly after: WatchPosition | null;
  readonly limit: number;
}

/** What is shown of the scheduler's work; nothing is decided on it. */
export interface ScheduleReads extends Pick<SchedulerStore, 'notices' | 'usesOf'> {
  scheduleOf(keyId: string): Promise<ScheduleRow | null>;
  /** In the order in which they were done. */
  runsOf(keyId: string, after: RunPosition | null, limit: number): Promise<readonly ScheduledRun[]>;
  /** Those of the versions that a policy, the limit of AES-GCM or an order made. */
  madeByRuns(keyId: string, versions: readonly number[]): Promise<ReadonlySet<number>>;
  /** Keys whose last look failed, those that fail the longest first. Names are not verified. */
  failing(query: WatchQuery): Promise<readonly WatchedKey[]>;
  /** Keys of which something has been due since before `until`, the latest first. */
  late(query: WatchQuery & { readonly until: Date }): Promise<readonly WatchedKey[]>;
  /** What was done to keys of the namespace, the newest first. */
  done(query: WatchQuery): Promise<readonly NamedRun[]>;
}

/** The policies that a namespace gives to its keys, verified. */
export interface NamespacePolicies {
  /** With the revision of their set; 0 while there never was one. */
  of(namespace: string): Promise<RankedPolicies & { readonly revision: number }>;
}

/** The way through all keys of a namespace whose policies have changed; it survives a crash. */
export interface PolicyRounds {
  /**
   * Asks for looks at the next keys, `limit` at most; how many, and null where no round is open. Of the
   * namespace after the one of the call before: whoever begins theirs anew all the time keeps nobody from a round.
   */
  markNext(limit: number): Promise<number | null>;
}
