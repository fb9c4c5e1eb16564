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

/** Held by the one command that archives; whoever dies with it leaves it. */
export interface ArchiveTurn {
  /** @throws TwofoldError database_unavailable where it was lost: another command may go on by now */
  still(): Promise<void>;
  /** Gives it back; never throws. */
  end(): Promise<void>;
}

export interface ArchiveStore {
  /** @throws TwofoldError conflict while another command archives, on whatever host */
  turn(): Promise<ArchiveTurn>;
  /** Entries of the log, and the network's sink that is behind the others; null where there is none. */
  facts(): Promise<{
    readonly size: number;
    readonly slowestSink: { readonly name: string; readonly next: number } | null;
  }>;
  /** Entries of the newest checkpoint that is older; 0 where none is. */
  sizeAt(before: Date): Promise<number>;
  /**
   * Says that entries before `until` are in the archive at `place`. Idempotent. Changes nothing where a sink
   * stands before `until`, unless as much was marked already.
   */
  mark(until: number, place: string): Promise<void>;
  /** Removes the position of a sink; false where it stands elsewhere, or nowhere. */
  forgetSink(name: string, next: number): Promise<boolean>;
  /** Removes rows up to before `to`, which is marked, and answers how far they are removed; one commit. */
  remove(to: number): Promise<number>;
}
