/** What a rate limit is, and what it is called. */

/** Requests (of a batch its items) that a bucket lets through. */
export interface Rate {
  /** How fast it fills; 0: never, as a quota of one period, which has a bucket for each period. */
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
  /** Of a quota. */
  readonly period?: Period;
}

/** A day or a month in UTC. */
export type PeriodKind = 'day' | 'month';

export interface Period {
  readonly kind: PeriodKind;
  /** Its day or month as ISO 8601 writes it. */
  readonly name: string;
  /** Milliseconds since the Unix epoch: its first one, and the first one after it. */
  readonly begins: number;
  readonly ends: number;
}

/** The period that a time is in. */
export function periodAt(kind: PeriodKind, now: Date): Period {
  const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
  const isDay = kind === 'day';
  return {
    kind,
    name: now.toISOString().slice(0, isDay ? 10 : 7),
    begins: Date.UTC(year, month, isDay ? day : 1),
    ends: isDay ? Date.UTC(year, month, day + 1) : Date.UTC(year, month + 1),
  };
}

/** Ten seconds' worth, unless told. */
const BURST_SECONDS = 10;
/** A lease is this part of the burst: what one instance may hold of it. */
const LEASES = 10;
/** Of a quota: what an instance that is killed takes with it is used, and does not come back. */
const LEASES_OF_QUOTA = 100;
/** Of a quota: what an instance asks for first, so that a thousand that touch it once leave nearly all of it. */
const FIRST_LEASES_OF_QUOTA = 10_000;

export const rateOf = (perMinute: number, burst?: number): Rate => ({
  perMinute,
  burst: burst ?? Math.max(1, Math.ceil((perMinute * BURST_SECONDS) / 60)),
});

export const perSecond = ({ perMinute }: Rate): number => perMinute / 60;

/** What an instance asks for at a time, of a quota at most. */
export const leaseOf = ({ perMinute, burst }: Rate): number =>
  Math.ceil(burst / (perMinute === 0 ? LEASES_OF_QUOTA : LEASES));

/** What an instance asks for at first of a quota, and where little is used of it; of a small one nothing. */
export const firstLeaseOf = ({ burst }: Rate): number => Math.floor(burst / FIRST_LEASES_OF_QUOTA);

/** Of a quota at least: what may come before the database has answered for what came before it. */
const LEAST_CREDIT_OF_QUOTA = 16;

/** What an instance lets through beyond what it holds until it hears of the bucket again. */
export const creditOf = (rate: Rate): number =>
  rate.perMinute === 0
    ? Math.min(rate.burst, Math.max(LEAST_CREDIT_OF_QUOTA, leaseOf(rate)))
    : leaseOf(rate);

export const quotaOf = (most: number): Rate => ({ perMinute: 0, burst: most });
