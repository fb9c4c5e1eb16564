/** What a chaos run holds against the times and counts that the checker found. */
import type { Proof, StrikePause, Verdict } from './checker.ts';

/** The longest time without an unwrap while the grace covers what is away. */
const UNWRAPS_MS = 1_000;
/** How long an instance waits for a commit before it answers without (`LATE_MS` of the lease). */
const LATE_MS = 700;
/** A machine that is busy with a fault too takes so many times what it took without one, at most. */
const BUSIER = 2;
const RESUMED_MS = 5_000;
/** A lease runs from before a commit was sent, which no client sees. */
const UNSEEN_MS = 1_000;
/** Of a run that makes every fault, and for as long as it says: far fewer than any had. */
const LEAST = { covered: 5, promotions: 3, suspensions: 50 } as const;

export interface Covered {
  /** Faults beside which some zone that was not struck had its commits back within the grace. */
  readonly faults: number;
  /** Longest time without an unwrap in such a zone, ms, with the name of the fault. */
  readonly pauses: readonly { readonly name: string; readonly ms: number }[];
}

/** The grace covers as long an outage as it lasts, from a zone's last commit on. */
export function coveredBy(graceMs: number, strikes: readonly StrikePause[]): Covered {
  const pauses = strikes.flatMap(({ name, zones }) => {
    const covered = zones.filter(({ commits }) => commits + UNSEEN_MS < graceMs);
    return covered.length === 0
      ? []
      : [{ name, ms: Math.max(...covered.map(({ unwraps }) => unwraps)) }];
  });
  return { faults: pauses.length, pauses };
}

/**
 * A second, or more on a machine that is so slow that unwraps pause by themselves: what lies between two of
 * them then comes on top of the wait for a commit.
 */
export const unwrapsWithin = (calmMs: number): number =>
  Math.max(UNWRAPS_MS, LATE_MS + BUSIER * calmMs);

export function unwrapsGoOn(
  graceMs: number,
  { strikePauses: strikes, calmUnwraps }: Pick<Verdict, 'strikePauses' | 'calmUnwraps'>,
): Proof {
  const { faults, pauses } = coveredBy(graceMs, strikes);
  const most = unwrapsWithin(calmUnwraps);
  return {
    claim: `Unwraps never pause longer than ${(most / 1_000).toFixed(1)} s while the grace lasts`,
    checked: `zones that were not struck, whose commits came back within it, in ${String(faults)} of ${String(strikes.length)} faults; between faults unwraps paused for ${(calmUnwraps / 1_000).toFixed(1)} s at most`,
    faults: pauses
      .filter(({ ms }) => ms > most)
      .map(({ name, ms }) => `${name}: ${ms.toFixed(0)} ms`),
  };
}

export function resumed({ afterPromotion }: Pick<Verdict, 'afterPromotion'>): Proof {
  const late = afterPromotion.filter((ms) => ms === null || ms > RESUMED_MS);
  return {
    claim: 'Writes go on within 5 s of a promotion',
    checked: `${String(afterPromotion.length)} promotions`,
    faults: late.map((ms) => (ms === null ? 'never' : `${ms.toFixed(0)} ms`)),
  };
}

/** That what the proofs say was tried at all. */
export function triedEnough(
  graceMs: number,
  {
    afterPromotion,
    counts,
    strikePauses,
  }: Pick<Verdict, 'afterPromotion' | 'counts' | 'strikePauses'>,
): Proof {
  const found = {
    covered: graceMs > UNSEEN_MS ? coveredBy(graceMs, strikePauses).faults : null,
    promotions: afterPromotion.length,
    suspensions: counts['suspend'] ?? 0,
  };
  const names = Object.keys(LEAST) as (keyof typeof LEAST)[];
  const tried = names.flatMap((name) => {
    const count = found[name];
    return count === null ? [] : [{ name, count }];
  });
  return {
    claim: 'Every proof had something to hold against',
    checked: tried
      .map(({ name, count }) => `${String(count)} ${name} (at least ${String(LEAST[name])})`)
      .join(', '),
    faults: tried
      .filter(({ name, count }) => count < LEAST[name])
      .map(({ name, count }) => `${String(count)} ${name}`),
  };
}
