/**
 * How many versions policies close over a horizon: a version is closed once as many newer ones as the
 * policy keeps are there, or its time after it was superseded has passed, whichever is first (`due.ts`).
 */
import { later, storedDuration } from '../keyring/durations.ts';
import type { Retirement, RotationPolicy } from '../keyring/rotation-policy.ts';
import type { LightKey } from './ports.ts';

/** Moments at which versions of one key are superseded, ms since the epoch. */
export interface Supersessions {
  readonly retire: Retirement;
  /** One by one, ascending, past and to come. */
  readonly times: number[];
  /** After them: each `period` in [from, until). */
  readonly series: { readonly from: number; readonly until: number; readonly period: number }[];
}

export class RetirementCount {
  readonly #now: number;
  readonly #end: number;
  #count = 0;
  #due = 0;

  /** @param end of the horizon, exclusive; both in ms since the epoch */
  constructor(now: number, end: number) {
    this.#now = now;
    this.#end = end;
  }

  get counts(): { readonly count: number; readonly due: number } {
    return { count: Math.round(this.#count), due: this.#due };
  }

  /**
   * What to fill in with the key's rotations; null where its policy closes no version.
   * @param activatedAt when a waiting version supersedes the primary; null where none does
   */
  of(
    { primary, superseded }: LightKey,
    policy: RotationPolicy | null,
    activatedAt: number | null,
  ): Supersessions | null {
    const retire = policy?.paused === null ? policy.retire : null;
    if (retire === null) return null;
    const replaced = primary !== null && activatedAt !== null ? [activatedAt] : [];
    return { retire, times: [...superseded, ...replaced], series: [] };
  }

  add(superseded: Supersessions): void {
    const { retire, times, series } = superseded;
    for (const [index, time] of times.entries()) {
      const at = Math.min(this.#pushedAt(superseded, index), afterTime(retire, time));
      if (at >= this.#end) continue;
      this.#count += 1;
      if (at <= this.#now) this.#due += 1;
    }
    for (const { from, until, period } of series) {
      const lag = Math.min(
        retire.keepVersions === null ? Infinity : (retire.keepVersions - 1) * period,
        afterTime(retire, from) - from,
      );
      const last = Math.min(until, this.#end - lag);
      this.#count += Math.max(0, Math.ceil((last - from) / period));
    }
  }

  /** When so many newer versions are there as the policy keeps. */
  #pushedAt({ retire, times, series }: Supersessions, index: number): number {
    if (retire.keepVersions === null) return Infinity;
    const pusher = index + retire.keepVersions - 1;
    const one = times[pusher];
    if (one !== undefined) return one;
    const [first] = series;
    return first === undefined ? Infinity : first.from + (pusher - times.length) * first.period;
  }
}

const afterTime = ({ after }: Retirement, time: number): number =>
  after === null ? Infinity : later(time, storedDuration(after));
