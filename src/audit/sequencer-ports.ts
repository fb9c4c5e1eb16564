/** What the sequencer asks of the database. Implemented by `store/sequencer-store.ts`. */
import type { LogHead } from './log-ports.ts';
import type { Tile } from './tree/edge.ts';

/** A lane that may have entries without an index. */
export interface LaneView {
  readonly lane: number;
  readonly kind: 'use' | 'change';
  /** The sequencer's cursor: the first entry without an index. */
  readonly next: number;
  /** The same, as the runs of the log say it. */
  readonly sequenced: number;
  /** Number of its last entry; 0 while it has none. */
  readonly last: number;
  readonly closed: boolean;
  /** Marked as closed with nothing without an index, which where it is shown nevertheless is not true. */
  readonly drained: boolean;
  /**
   * How many of its entries the instance says were acknowledged to it; null where it says nothing of
   * this lane. As it stands in the row: it may be any number.
   */
  readonly announced: number | null;
}

/** Entries `from` (inclusive) to `until` (exclusive) of a lane. */
export interface LaneRange {
  readonly lane: number;
  readonly from: number;
  readonly until: number;
}

export interface LaneEntry {
  readonly lane: number;
  readonly n: number;
  readonly leaf: Uint8Array;
  readonly body: Uint8Array;
  /** At the first entry of a batch; null at the others. */
  readonly batchHmac: Uint8Array | null;
}

/** The head, the newest checkpoint, and the right edge of the tree, in one snapshot. */
export interface StoredEdge extends LogHead {
  readonly checkpoint: { readonly size: number; readonly note: string } | null;
  /** The last, partial tile of each level; of level 0 made from the leaves of the entries. */
  readonly tiles: readonly Tile[];
}

/** Consecutive entries of a lane that get consecutive indexes. */
export interface Run {
  readonly lane: number;
  readonly from: number;
  readonly count: number;
  /** The leaf of its last entry, 32 bytes. */
  readonly leaf: Uint8Array;
}

/** What one commit of the sequencer writes. */
export interface Stage {
  readonly term: number;
  /** Instance id. */
  readonly holder: string;
  /** The head that it grows from. */
  readonly before: Pick<LogHead, 'size' | 'root'>;
  readonly after: { readonly size: number; readonly root: Uint8Array; readonly note: string };
  /** In the order of the log; one a lane. */
  readonly runs: readonly Run[];
  /** Made or widened. */
  readonly tiles: readonly Tile[];
}

/**
 * `deposed`: the term is over; `moved`: the head, a cursor, or the last entry of a run is another than the
 * stage's. Nothing was written then.
 */
export type StageOutcome = 'committed' | 'deposed' | 'moved';

/** How far the log is; what followers watch. */
export interface LogProgress {
  readonly size: number;
  /** Entries without an index. */
  readonly unsequenced: number;
  /** Since the newest checkpoint, by the database's clock; null before the first. */
  readonly checkpointAgeMs: number | null;
}

export interface SequencerStore {
  /**
   * Lanes that are not drained, by number. `certain`: also those that are said to be though entries of theirs have
   * no index, and no old primary can answer (it may otherwise, and nothing stands on that but a refused commit).
   */
  lanes(certain: boolean): Promise<readonly LaneView[]>;
  /** The entries of these ranges that are there, in the order of the ranges. `certain` as above. */
  intake(ranges: readonly LaneRange[], certain: boolean): Promise<readonly LaneEntry[]>;
  /**
   * Whether exactly these entries stand there: SHA-256 of HMAC ‖ leaves of each batch is `digest`, and
   * each leaf is the hash of its body. An old primary may answer.
   */
  holds(range: LaneRange, digest: Uint8Array): Promise<boolean>;
  /** Answered by no old primary. */
  edge(): Promise<StoredEdge>;
  /**
   * One statement. @throws OutcomeUnknown when it may have been written, or still will; a `TwofoldError`
   * when it certainly was not
   */
  sequence(stage: Stage): Promise<StageOutcome>;
  /** Marks those that are closed and have nothing without an index. */
  drain(lanes: readonly number[]): Promise<void>;
  progress(): Promise<LogProgress>;
}

/** Implemented by `store/sequencer-store.ts`. */
export interface CheckpointThinning {
  /**
   * Removes at most `limit` checkpoints of before `before`, and none of the last two days, that is the last of
   * its hour, or that a witness has cosigned; answers how many.
   */
  expire(before: Date, limit: number): Promise<number>;
}
