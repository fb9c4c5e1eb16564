/** What the limiter asks of the database. Implemented by `store/`. */

/** For one bucket. */
export interface LeaseRequest {
  /** 32 bytes. */
  readonly id: Uint8Array;
  /** Used already and charged in any case; negative: given back. */
  readonly owed: number;
  /** Asked for beyond that. */
  readonly wanted: number;
  readonly perSecond: number;
  readonly burst: number;
}

export interface Lease {
  readonly granted: number;
  /** What the bucket has left; negative while it is in debt. */
  readonly available: number;
}

export interface LeaseStore {
  /**
   * One statement. Leases in the order of the requests, at most 1,000, each for a bucket of its own.
   * Throws `OutcomeUnknown` or a `TwofoldError`.
   */
  lease(requests: readonly LeaseRequest[]): Promise<readonly Lease[]>;
}
