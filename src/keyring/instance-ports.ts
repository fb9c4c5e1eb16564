/** The running instances, as the database knows them: implemented by `store/instance-store.ts`. */
export interface InstanceRow {
  readonly id: string;
  readonly zone: string;
  /** Suite numbers and envelope versions that it reads. */
  readonly suites: readonly number[];
  readonly envelopes: readonly number[];
  readonly graceMs: number;
}

/** What a committed heartbeat found. */
export interface Heartbeat {
  /** The security epoch. */
  readonly epoch: number;
  /** Heartbeats of this instance so far, this one included; null: it has no open row. */
  readonly beat: number | null;
  readonly fenced: boolean;
}

/** What an instance announces of its lanes: those it writes now, and how many entries were acknowledged. */
export interface LaneCounts {
  readonly useLane: number | null;
  readonly useCount: number | null;
  readonly changeLane: number | null;
  readonly changeCount: number | null;
}

/** The instances that live, as one of them knows them. */
export interface LiveInstances {
  /**
   * Whether each reads the suite and envelope version.
   * @throws TwofoldError database_unavailable while nothing is known of them
   */
  allRead(suite: number, envelope: number): Promise<boolean>;
}

export interface InstanceStore {
  open(instance: InstanceRow): Promise<void>;
  /** `lanes`: what is announced of them; nothing is unless given. */
  beat(id: string, epochSeen: number, lanes?: LaneCounts): Promise<Heartbeat>;
  /** The generations of the root that it has opened. */
  announceGenerations(id: string, generations: readonly number[]): Promise<void>;
  /** The token that it uses, by its serial. */
  announceToken(id: string, serial: string): Promise<void>;
  /** Names of the zones with a live instance on the token of this serial, in order. */
  zonesWithToken(serial: string): Promise<readonly string[]>;
  /**
   * Whether every live (neither closed nor fenced, beating) instance reads the suite and envelope version. For
   * an instance that is live itself: `silentMs` is for how long heartbeats did not come back lately, and those that
   * lived before that count. A committed read.
   * @throws TwofoldError database_unavailable where `by` is not live
   */
  allRead(
    what: { readonly suite: number; readonly envelope: number },
    by: { readonly id: string; readonly silentMs: number },
  ): Promise<boolean>;
  /**
   * The epoch now, and the least that a live instance has confirmed; the same where none lives. A committed
   * read: an old primary says nothing of it.
   */
  confirmed(): Promise<{ readonly epoch: number; readonly least: number }>;
  close(id: string): Promise<void>;
  /** Closes it unless it is live: then it is another process's, and is left alone. */
  closeDead(id: string): Promise<void>;
  /**
   * Removes at most `limit` instances that have not beaten since `before`, each with the number of its
   * last flush of uses; none that has within a day. Answers how many.
   */
  expire(before: Date, limit: number): Promise<number>;
}
