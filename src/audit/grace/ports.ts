/** What the grace asks of the database. Implemented by `store/`. */
import type { AppendBatch } from '../ports.ts';
import type { Holders } from './waiting.ts';

/** Of the batches of a spool: the place in its lane's order is theirs, whatever became of their writer. */
export interface Replay {
  readonly instance: string;
  readonly lane: number;
  /** Contiguous. */
  readonly batches: readonly AppendBatch[];
}

export interface GraceStore {
  /**
   * Makes entries of a spool durable, each once: those that are there already have to be the same. Refused
   * for no epoch and for no instance. Answers the security epoch under which it was committed.
   * Throws `LaneLost` (src/outcome.ts): they will never stand there; whatever else it throws, the same
   * replay can be sent again.
   */
  replay(replay: Replay): Promise<number>;
  /** Instances with a grace that have neither ended nor confirmed the epoch; a committed read. */
  holders(): Promise<Holders>;
  /** Fences those that have not told `epoch`; the caller has waited their leases out. */
  fence(epoch: number, ids: readonly string[]): Promise<void>;
}
