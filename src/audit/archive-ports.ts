/** What moving entries to cold storage asks of the database, as its owner. Implemented by `store/archive-store.ts`. */

/** How far the log is in cold storage. */
export interface Archived {
  /** Entries before this index are in the archive. A multiple of 256. */
  readonly until: number;
  /** Rows of entries before this one have been removed, but for the last of lanes that are in use. */
  readonly removed: number;
  /** Where the archive is, in the words of whoever made it. */
  readonly place: string;
}

export interface ArchiveStore {
  /** Entries of the log, and the first that some sink has not had; null where there is no sink. */
  facts(): Promise<{ readonly size: number; readonly slowestSink: number | null }>;
  /** Entries of the newest checkpoint that is older; 0 where none is. */
  sizeAt(before: Date): Promise<number>;
  /** Says that entries before `until` are in the archive at `place`. Idempotent. */
  mark(until: number, place: string): Promise<void>;
  /** Removes rows up to before `to`, which is marked, and answers how far they are removed; one commit. */
  remove(to: number): Promise<number>;
}
