/** What the carrying out of orders asks of its storage. Implemented by `store/` on PostgreSQL. */
import type { Labels } from '../keyring/model.ts';

/** A key of an order whose turn it is. */
export interface OrderedKey {
  readonly keyId: string;
  /** Attempts that failed so far. */
  readonly attempts: number;
}

/** What became of a key without a rotation. */
export interface Settled {
  /** `waiting`: it is tried again, no sooner than `nextAt`. */
  readonly state: 'waiting' | 'skipped' | 'failed';
  /** Why it failed; null where it did not. */
  readonly code: string | null;
  readonly at: Date;
  readonly nextAt: Date;
}

/** What is looked for among the keys; each is verified before anything is done to it. */
export interface Wanted {
  readonly id: string;
  readonly namespace: string;
  readonly labels: Labels;
  readonly placedAt: Date;
}

export interface RunningOrder {
  readonly id: string;
  readonly namespace: string;
  /** When it was placed. */
  readonly at: Date;
}

export interface OrderStore {
  /** Orders that run, the oldest first, after one of them. Nothing is verified. */
  running(
    now: Date,
    limit: number,
    after: Pick<RunningOrder, 'at' | 'id'> | null,
  ): Promise<readonly RunningOrder[]>;
  /** Looks at the next `limit` keys of the namespace and notes those that match; goes on after a crash. */
  walk(order: Wanted, now: Date, limit: number): Promise<void>;
  /** Keys whose turn it is, `limit` at most. */
  waiting(id: string, now: Date, limit: number): Promise<readonly OrderedKey[]>;
  /** Counts an attempt that did not rotate the key; nothing where it is settled. */
  settle(id: string, keyId: string, settled: Settled): Promise<void>;
}
