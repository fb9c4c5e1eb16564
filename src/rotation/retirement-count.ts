/**
 * How many versions policies close over a horizon: a version is closed once as many newer ones as the
 * policy keeps are there, or its time after it was superseded has passed, whichever is first (`due.ts`).
 * Under a policy with notice that is announced first. What was announced is not asked for: a version
 * whose time has come counts as announced now, and closes when the notice has passed.
 */
import { earlier, later, storedDuration } from '../keyring/durations.ts';
import type { Duration } from '../keyring/durations.ts';
import type { RotationPolicy } from '../keyring/rotation-policy.ts';
import type { LightKey } from './ports.ts';

/** Moments at which versions of one key are superseded, ms since the epoch. */
export interface Supersessions {
  readonly keepVersions: number | null;
  readonly after: Duration | null;
  readonly notice: Duration | null;
  /** One by one, ascending, past and to come. */
  readonly times: number[];
  /** After them: each `period` in [from, until). */
  readonly series: { readonly from: number; readonly until: number; readonly period: number }[];
}

/** Ms since the epoch; the same moment where nothing is announced. */
export interface Closing {
  readonly announcedAt: number;
  readonly at: number;
}

/**
 * What to fill in with the key's rotations; null where its policy closes no version.
 * @param activatedAt when a waiting version supersedes the primary; null where none does
 */
export function supersessionsOf(
  { primary, superseded }: LightKey,
  policy: RotationPolicy | null,
  activatedAt: number | null,
): Supersessions | null {
  const retire = policy?.paused === null ? policy.retire : null;
  if (policy === null || retire === null) return null;
  const replaced = primary !== null && activatedAt !== null ? [activatedAt] : [];
  return {
    keepVersions: retire.keepVersions,
    after: retire.after === null ? null : storedDuration(retire.after),
    notice: policy.notice === null ? null : storedDuration(policy.notice),
    times: [...superseded, ...replaced],
    series: [],
  };
}

const NEVER: Closing = { announcedAt: Infinity, at: Infinity };

/** Of the version that was superseded at `times[index]`. */
export function closingOf(superseded: Supersessions, index: number, now: number): Closing {
  const { times } = superseded;
  const time = times[index];
  if (time === undefined) return NEVER;
  const byCount = pushedAt(superseded, index);
  const byTime = superseded.after === null ? Infinity : later(time, superseded.after);
  const { notice } = superseded;
  if (notice === null) {
    const at = Math.min(byCount, byTime);
    return { announcedAt: at, at };
  }
  const told = (since: number, due: number): Closing => {
    if (due === Infinity) return NEVER;
    const announcedAt = Math.max(since, now);
    return { announcedAt, at: Math.max(due, later(announcedAt, notice)) };
  };
  const early = byTime === Infinity ? Infinity : Math.max(earlier(byTime, notice), time);
  const [a, b] = [told(byCount, byCount), told(early, byTime)];
  return a.at < b.at ? a : b;
}

/** When so many newer versions are there as the policy keeps. */
function pushedAt({ keepVersions, times, series }: Supersessions, index: number): number {
  if (keepVersions === null) return Infinity;
  const pusher = index + keepVersions - 1;
  const one = times[pusher];
  if (one !== undefined) return one;
  const [first] = series;
  return first === undefined ? Infinity : first.from + (pusher - times.length) * first.period;
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

  add(superseded: Supersessions): void {
    const { keepVersions, after, notice, times, series } = superseded;
    for (let index = 0; index < times.length; index += 1) {
      const { at } = closingOf(superseded, index, this.#now);
      if (at >= this.#end) continue;
      this.#count += 1;
      if (at <= this.#now) this.#due += 1;
    }
    for (const { from, until, period } of series) {
      const ahead = notice === null ? 0 : later(from, notice) - from;
      const lag = Math.min(
        keepVersions === null ? Infinity : (keepVersions - 1) * period + ahead,
        after === null ? Infinity : Math.max(later(from, after) - from, ahead),
      );
      const last = Math.min(until, this.#end - lag);
      this.#count += Math.max(0, Math.ceil((last - from) / period));
    }
  }
}
