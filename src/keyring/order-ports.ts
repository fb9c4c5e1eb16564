/** What orders of rotations ask of their storage. Implemented by `store/` on PostgreSQL. */
import type { Labels } from './model.ts';

/** Kind of the operations that are orders. */
export const ORDER_KIND = 'rotation';

/** How far the scheduler is with an order; statistics without a MAC. */
export interface OrderTally {
  /** Keys that are settled, one way or another. */
  readonly position: number;
  readonly counts: {
    /** Keys that were found to belong to the order so far. */
    readonly matched: number;
    readonly rotated: number;
    /** Keys that no longer had the labels, or were destroyed, when their turn came. */
    readonly skipped: number;
    readonly failed: number;
    /** 1 once every key of the namespace was looked at for a match. */
    readonly walked: number;
  };
}

/** A key of an order that could not be rotated, so far or for good. */
export interface OrderFailure {
  readonly keyId: string;
  readonly keyName: string;
  readonly state: 'waiting' | 'failed';
  readonly attempts: number;
  readonly code: string;
  readonly at: Date;
}

export interface OrderReads {
  /** How far those operations are that are orders and were begun, by id. */
  tallies(ids: readonly string[]): Promise<ReadonlyMap<string, OrderTally>>;
  /** By key id, those after `afterKey`. */
  orderFailures(
    id: string,
    afterKey: string | null,
    limit: number,
  ): Promise<readonly OrderFailure[]>;
  /** How many keys of the namespace stand and have the labels; no labels: all. Nothing is verified. */
  countMatching(namespace: string, labels: Labels): Promise<number>;
}
