/** What a stream of server-sent events sends: read in pages, at the pace of the stream's reader. */
import type { Operation } from '../access/grant.ts';

/** One event, and the place after it. */
export interface FeedItem {
  /** Its `id`, from which a reader goes on. */
  readonly id: string;
  /** JSON on one line. */
  readonly data: string;
}

export interface FeedPage {
  readonly items: readonly FeedItem[];
  /** How far it looked; null before anything was. */
  readonly place: string | null;
  /** Whether to read on at once. */
  readonly more: boolean;
}

/** Of one stream; it keeps its place. */
export interface Feed {
  /** Asked for again whenever access may have changed. */
  readonly operation: Operation;
  /** How often it is read when nothing wakes it, ms; null: only when woken. */
  readonly everyMs: number | null;
  /** Whether its place can be served at all. @throws TwofoldError */
  check(): Promise<void>;
  /** What follows. @throws TwofoldError; after `database_unavailable` it is asked again. */
  next(): Promise<FeedPage>;
}
