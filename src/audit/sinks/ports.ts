/** What the parts of the sinks ask of one another. */

/** An entry of the sequenced log as it is handed on. */
export interface SinkRecord {
  readonly index: number;
  /** `<lane>-<n>`. */
  readonly id: string;
  readonly at: Date;
  readonly operation: string;
  /** `ok` or an error code. */
  readonly outcome: string;
  readonly namespace: string;
  /** The entry as the API shows it, with `index`: JSON in one line, without its end. */
  readonly json: string;
}

/** Somewhere that entries are copied to. */
export interface Sink {
  /**
   * Resolves once the receiver has taken all of them, for good as far as its protocol can say.
   *
   * @throws RecordRefused when it will not take them however often they come; any other error means
   *   that all are sent again
   */
  deliver(records: readonly SinkRecord[]): Promise<void>;
  close(): Promise<void>;
}

/** The receiver has read what was sent and will never take it. */
export class RecordRefused extends Error {
  override readonly name = 'RecordRefused';
}

/** A record as a sink has it. */
export interface KeptRecord {
  /** `<lane>-<n>`. */
  readonly id: string;
  readonly at: Date;
}

/** How far a sink is. */
export interface SinkPosition {
  /** Index of the next entry; null where nothing was delivered yet. */
  next(): Promise<number | null>;
  /** The record before that of `next`, where the sink itself is the position; null where it has none. */
  kept?(): KeptRecord | null;
  /** From `from` (null: nothing yet) to `to`; false when it stands elsewhere: somebody else goes on with it. */
  advance(from: number | null, to: number): Promise<boolean>;
  /** Says that it is served, though it goes on from nowhere. Absent: nobody else asks. */
  stay?(at: number): Promise<void>;
}

export interface StandingSink {
  readonly name: string;
  readonly next: number;
  /** Since it was last served, ms. */
  readonly quietMs: number;
}

/** Positions of sinks that the instances share. Implemented by `store/sink-store.ts`. */
export interface SinkPositions {
  position(sink: string): SinkPosition;
  /** Every sink that has one, also those that nobody serves. */
  all(): Promise<readonly StandingSink[]>;
}
