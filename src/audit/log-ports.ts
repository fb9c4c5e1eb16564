/**
 * What the parts of the sequenced log ask of one another: the readers of its
 * store, and whoever signs its checkpoints.
 */
import type { Archived } from './archive-ports.ts';
import type { IndexColumns } from './ports.ts';
import type { TileId } from './tree/tiles.ts';

/** The newest committed state of the log. */
export interface LogHead {
  /** How many entries the tree holds. */
  readonly size: number;
  /** Its root: 32 bytes (RFC 6962, section 2.1). */
  readonly root: Uint8Array;
  /** The newest checkpoint, a whole signed note; null while the log is empty. */
  readonly note: string | null;
}

/** An entry and the places it has: in the log, and in its lane. */
export interface SequencedEntry {
  /** Its index in the tree, from 0. */
  readonly index: number;
  readonly lane: number;
  /** Its number in the lane. */
  readonly n: number;
  /** Its leaf hash: 32 bytes, SHA-256(0x00 || body). */
  readonly leaf: Uint8Array;
  readonly body: Uint8Array;
  readonly columns: IndexColumns;
}

/** A checkpoint that was committed, as it was signed. */
export interface StoredCheckpoint {
  readonly size: number;
  /** The whole signed note. */
  readonly note: string;
  /** When it was committed, by the database's clock. */
  readonly at: Date;
}

/** What readers ask of the sequenced log. */
export interface LogReader {
  head(): Promise<LogHead>;
  /**
   * Entries from `from` (inclusive) to `until` (exclusive), in index order, at
   * most 4,096 a call; fewer where the log ends.
   *
   * @throws TwofoldError `entry_archived` where rows are in cold storage
   */
  entries(from: number, until: number): Promise<readonly SequencedEntry[]>;
  /** The index of a lane's entry; null while it is not sequenced. */
  indexOf(lane: number, n: number): Promise<number | null>;
  /**
   * The hashes of a tile, 32 bytes each and `width` of them, level 0 = leaves
   * (C2SP tlog-tiles); null when the tree has no such tile yet. `certain`: answered by no old primary, which
   * may not have it yet.
   */
  tile(level: number, index: number, width: number, certain?: boolean): Promise<Uint8Array | null>;
  /**
   * Several tiles at once, for a proof, which is verified: of those that were read before from memory, unless
   * `anew`, when memory may hold what was altered and is as it was again.
   */
  tiles(wanted: readonly TileId[], anew?: boolean): Promise<readonly (Uint8Array | null)[]>;
  /** How far entries are in cold storage. */
  archived(): Promise<Archived>;
  /** Checkpoints by size, ascending, from the first of at least `size`. */
  checkpoints(size: number, limit: number): Promise<readonly StoredCheckpoint[]>;
  /** Entries that the log had at that time by the database's clock, or fewer: those of a checkpoint before it. */
  sizeAt(time: Date): Promise<number>;
}

/** Signs checkpoints with the log's keys. */
export interface CheckpointSigner {
  /**
   * The whole signed note of a tree's checkpoint.
   *
   * @param size - How many entries.
   * @param root - 32 bytes.
   * @throws TwofoldError `hsm_unavailable`.
   */
  sign(size: number, root: Uint8Array): Promise<string>;
}

/** A lane as it is stored. */
export interface LaneState {
  readonly lane: number;
  readonly kind: 'use' | 'change';
  /** UUID of the incarnation that writes it. */
  readonly instance: string;
  readonly closed: boolean;
  /** The sequencer's cursor: the next entry that it takes. */
  readonly next: number;
}

/** Lanes by number, from the first after `after`. Implemented by src/store/lane-list.ts. */
export interface LaneReader {
  lanes(after: number, limit: number): Promise<readonly LaneState[]>;
}
