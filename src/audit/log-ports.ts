/** What the parts of the sequenced log ask of each other. */

/** Newest committed checkpoint. `note`: the whole signed note (text), null while the log is empty. */
export interface LogHead {
  readonly size: number;
  readonly root: Uint8Array;
  readonly note: string | null;
}

export interface SequencedEntry {
  readonly index: number;
  readonly lane: number;
  readonly n: number;
  readonly leaf: Uint8Array;
  readonly body: Uint8Array;
}

/** What readers ask of the sequenced log. Implemented by src/store/log-store.ts. */
export interface LogReader {
  head(): Promise<LogHead>;
  /** Entries from `from` (inclusive) to `until` (exclusive), in index order, at most 4,096 a call. */
  entries(from: number, until: number): Promise<readonly SequencedEntry[]>;
  indexOf(lane: number, n: number): Promise<number | null>;
  /** Hashes of a tile (32 bytes each, width = how many), level 0 = leaves; null when not there yet. */
  tile(level: number, index: number, width: number): Promise<Uint8Array | null>;
  /** Checkpoints (notes) by size, ascending, from the first of at least `size`. */
  checkpoints(
    size: number,
    limit: number,
  ): Promise<readonly { readonly size: number; readonly note: string; readonly at: Date }[]>;
}

/** Signs checkpoints. */
export interface CheckpointSigner {
  /** The whole signed note. @throws TwofoldError hsm_unavailable */
  sign(size: number, root: Uint8Array): Promise<string>;
}
