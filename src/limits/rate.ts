/** What a rate limit is, and what it is called. */

/** Requests (of a batch its items) that a bucket lets through. */
export interface Rate {
  /** How fast it fills. */
  readonly perMinute: number;
  /** How much it holds, and so how many may come at once. */
  readonly burst: number;
}

/** One limit that a request counts against. */
export interface Limit {
  /** In headers, answers and the audit log: which limit of which kind, never of whom. */
  readonly name: string;
  /** What is limited, unique over the installation; stays the same when the rate changes. */
  readonly bucket: string;
  /** In whose name it is remembered: a namespace, or '' for nobody's. Always the same for a bucket. */
  readonly owner: string;
  readonly rate: Rate;
}

/** Ten seconds' worth, unless told. */
const BURST_SECONDS = 10;
/** A lease is this part of the burst: what one instance may hold of it. */
const LEASES = 10;

export const rateOf = (perMinute: number, burst?: number): Rate => ({
  perMinute,
  burst: burst ?? Math.max(1, Math.ceil((perMinute * BURST_SECONDS) / 60)),
});

export const perSecond = ({ perMinute }: Rate): number => perMinute / 60;

/** What an instance asks for at a time. */
export const leaseOf = ({ burst }: Rate): number => Math.ceil(burst / LEASES);
