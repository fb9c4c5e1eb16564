/** What the scheduler asks of others. Implemented by `store/` on PostgreSQL. */
import type { RankedPolicies } from '../keyring/selector-policy.ts';

/** A leadership as it stands. */
export interface Leadership {
  readonly term: number;
  /** Instance id; null when it was given up. */
  readonly holder: string | null;
  readonly beat: number;
}

/** A key to look at; `marks` is what its row said when it was taken up. */
export interface Look {
  readonly keyId: string;
  readonly namespace: string;
  readonly marks: number;
  /** Failed looks in a row so far. */
  readonly failures: number;
}

/** What a look found. */
export interface Looked {
  /** When to look next; null: when something changes. */
  readonly nextAt: Date | null;
  /** Protecting uses of the primary at which to look at once; null where none are counted. */
  readonly maxUses: number | null;
  /** Why it could not do what is due; null when it did. */
  readonly failure: { readonly code: string; readonly at: Date } | null;
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

export interface SchedulerStore {
  leadership(role: string): Promise<Leadership>;
  /**
   * Takes the term after `seen` if it still stands as seen, or gives up one's own (`holder` null).
   * Null: somebody was faster. Durable when it resolves.
   */
  takeLeadership(role: string, seen: Leadership, holder: string | null): Promise<Leadership | null>;
  /** One beat of one's own term; false: leader no more. */
  beat(role: string, term: number, holder: string): Promise<boolean>;
  /** Keys whose time has come, the earliest first, beside as many that something asked to look at. */
  due(now: Date, limit: number): Promise<readonly Look[]>;
  /** Writes what a look found, unless a change has asked for another look since it began. */
  looked(look: Look, found: Looked): Promise<void>;
  /** Asks for a look at the keys after `afterId`, `limit` at most; the last of them, null at the end. */
  markAfter(afterId: string | null, limit: number): Promise<string | null>;
  /** Identities of the notices that a key was given. */
  notices(keyId: string): Promise<readonly string[]>;
  /** Protecting uses of one version, as reserved. */
  usesOf(keyId: string, version: number): Promise<number>;
}

/** A key's row in the list of times. */
export interface ScheduleRow {
  /** Of the last look; null when it did what was due. */
  readonly failure: {
    readonly code: string;
    readonly at: Date;
    /** Failed looks in a row. */
    readonly count: number;
  } | null;
}

/** Where a page of runs goes on: after this one. */
export interface RunPosition {
  readonly doneAt: Date;
  readonly action: string;
}

/** What is shown of the scheduler's work; nothing is decided on it. */
export interface ScheduleReads extends Pick<SchedulerStore, 'notices' | 'usesOf'> {
  scheduleOf(keyId: string): Promise<ScheduleRow | null>;
  /** In the order in which they were done. */
  runsOf(keyId: string, after: RunPosition | null, limit: number): Promise<readonly ScheduledRun[]>;
}

/** The policies that a namespace gives to its keys, verified. */
export interface NamespacePolicies {
  /** With the revision of their set; 0 while there never was one. */
  of(namespace: string): Promise<RankedPolicies & { readonly revision: number }>;
}

/** The way through all keys of a namespace whose policies have changed; it survives a crash. */
export interface PolicyRounds {
  /** Asks for looks at the next keys, `limit` at most; how many, and null where no round is open. */
  markNext(limit: number): Promise<number | null>;
}
