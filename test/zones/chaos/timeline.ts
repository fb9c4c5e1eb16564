/** When what was acknowledged, by zone and operation, and the longest times without it. */
import type { Zone } from '../cluster.ts';
import { ZONES } from '../cluster.ts';

/** Changes of state, which need a commit, however long the grace is. */
export const CHANGES: readonly string[] = ['create', 'rotate', 'suspend', 'resume'];

/** Uses that no grace covers, and that wait for nobody but the database. */
export const COMMITS: readonly string[] = ['wrap', 'sign'];

/** What no grace covers: each has been committed when it is acknowledged. */
const WRITES: readonly string[] = [...CHANGES, ...COMMITS];

/** Wall-clock times in ms; the checker and the test run on one machine, and their clock is not moved. */
export interface Interval {
  readonly from: number;
  readonly until: number;
}

interface Acknowledged {
  readonly zone: Zone;
  readonly operation: string;
  readonly at: number;
}

/** What a request is called; null for reads that only judge. */
export function operationOf(method: string, path: string): string | null {
  if (path.endsWith('/proof')) return 'proof';
  if (method !== 'POST') return null;
  if (path === '/v1/admin/keys') return 'create';
  return path.split('/').at(-1) ?? null;
}

// Hundreds of thousands of them are more than a call takes arguments.
const longestOf = (edges: readonly number[]): number =>
  edges.reduce((most, at, place) => Math.max(most, at - (edges[place - 1] ?? at)), 0);

export class Timeline {
  readonly #all: Acknowledged[] = [];

  mark(zone: Zone, operation: string): void {
    this.#all.push({ zone, operation, at: Date.now() });
  }

  /** Acknowledgements, by operation. */
  get counts(): Readonly<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const { operation } of this.#all) counts[operation] = (counts[operation] ?? 0) + 1;
    return counts;
  }

  /**
   * Longest time without an acknowledgement that fits, ms, of those that touch `within`, counted from when
   * that begins: what paused before is the doing of something else, such as a connection to a zone that was
   * cut off, whose packets are sent again late. What is still under way when `within` ends is counted to its end.
   */
  longest(within: Interval, fits: (one: Acknowledged) => boolean): number {
    const times = this.#all.filter(fits).map(({ at }) => at);
    const inside = times.filter((at) => at > within.from && at < within.until);
    const after = times.find((at) => at >= within.until) ?? within.until;
    return longestOf([within.from, ...inside, after]);
  }

  /** The same up to the last that is inside: what comes after it may be the doing of what ends `within`. */
  longestInside(within: Interval, fits: (one: Acknowledged) => boolean): number {
    const inside = this.#all.filter(
      (one) => fits(one) && one.at > within.from && one.at < within.until,
    );
    return longestOf([within.from, ...inside.map(({ at }) => at)]);
  }

  /** From `moment` until the first acknowledged write in any zone, ms; null where none came. */
  writeAfter(moment: number): number | null {
    const next = this.#all.find(({ operation, at }) => at > moment && WRITES.includes(operation));
    return next === undefined ? null : next.at - moment;
  }
}

export const othersThan = (zones: readonly Zone[]): readonly Zone[] =>
  ZONES.filter((zone) => !zones.includes(zone));

/** What lies before each strike and after the one before; they are in order. */
export function calmBetween(strikes: readonly Interval[], began: number): readonly Interval[] {
  return strikes.map(({ from }, place) => ({
    from: strikes[place - 1]?.until ?? began,
    until: from,
  }));
}
