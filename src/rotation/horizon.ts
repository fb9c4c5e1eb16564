/**
 * Counts of rotations over a horizon of days that begins at `now`: per day and suite, and per minute.
 * Its size is that of the horizon and of the suites met, whatever the number of keys.
 */
export const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
const MINUTES_A_DAY = DAY_MS / MINUTE_MS;
/** Minutes that are looked at in one go, in a few milliseconds. */
const STRIDE = 2 ** 18;
/** Rotations of one key that are counted one by one where they come at even intervals. */
const COUNTED = 400;

export interface MinuteLoad {
  /** The most that fell due in one minute, and when. */
  readonly peak: { readonly at: number; readonly rotations: number };
  /** Null where the budget is kept in every minute. */
  readonly overload: {
    /** The first minute with more than the budget. */
    readonly from: number;
    /** By how many minutes the last of the work is late at worst, and when that is. */
    readonly lateMinutes: number;
    readonly worstAt: number;
  } | null;
}

export class Horizon {
  readonly #start: number;
  readonly #days: number;
  readonly #bySuite = new Map<number, Float64Array>();
  readonly #minutes: Uint32Array;
  /** Rotations a minute that begin (or end, negative) with a minute; null until an interval is under a day. */
  #rates: Float64Array | null = null;

  constructor(start: number, days: number) {
    this.#start = start;
    this.#days = days;
    this.#minutes = new Uint32Array(days * MINUTES_A_DAY);
  }

  /** The first moment after it. */
  get end(): number {
    return this.#start + this.#days * DAY_MS;
  }

  /** Suite number -> rotations by day; fractions where an interval is shorter than a day. */
  get bySuite(): ReadonlyMap<number, Float64Array> {
    return this.#bySuite;
  }

  /** One rotation at `at`, which is in the horizon. */
  add(at: number, suite: number): void {
    const since = at - this.#start;
    const minute = Math.floor(since / MINUTE_MS);
    this.#minutes[minute] = (this.#minutes[minute] ?? 0) + 1;
    this.#addToDay(this.#daysOf(suite), Math.floor(since / DAY_MS), 1);
  }

  /**
   * Rotations each `period` from `at` on, before the end of the horizon; what comes after the first
   * `COUNTED` as an even rate, since a forecast of years ahead is not right by the minute anyway.
   */
  addEach(at: number, period: number, suite: number): void {
    const days = this.#daysOf(suite);
    const minutes = this.#minutes;
    const length = Math.min(this.#days * DAY_MS, at - this.#start + COUNTED * period);
    for (let since = at - this.#start; since < length; since += period) {
      const minute = Math.floor(since / MINUTE_MS);
      minutes[minute] = (minutes[minute] ?? 0) + 1;
      this.#addToDay(days, Math.floor(since / DAY_MS), 1);
    }
    this.spread(at + COUNTED * period, this.end, period, suite);
  }

  /** One rotation each `period` evenly over [from, until): for periods too short to count one by one. */
  spread(from: number, until: number, period: number, suite: number): void {
    const [start, end] = [from - this.#start, Math.min(until, this.end) - this.#start];
    if (end <= start) return;
    const rate = MINUTE_MS / period;
    const [first, last] = [Math.floor(start / MINUTE_MS), Math.floor(end / MINUTE_MS)];
    const rates = (this.#rates ??= new Float64Array(this.#days * MINUTES_A_DAY + 1));
    rates[first] = (rates[first] ?? 0) + rate;
    rates[last] = (rates[last] ?? 0) - rate;
    const days = this.#daysOf(suite);
    for (let at = start; at < end; at = (Math.floor(at / DAY_MS) + 1) * DAY_MS) {
      const day = Math.floor(at / DAY_MS);
      this.#addToDay(days, day, (Math.min(end, (day + 1) * DAY_MS) - at) / period);
    }
  }

  /**
   * As a queue that does `perMinute` each minute, or all at once for null. Stops now and then on its
   * way, since ten years have five million minutes.
   */
  *load(perMinute: number | null): Generator<undefined, MinuteLoad> {
    let [rate, backlog, worst, worstMinute, peak, peakMinute] = [0, 0, 0, 0, 0, 0];
    let first: number | null = null;
    const [minutes, rates] = [this.#minutes, this.#rates];
    for (let minute = 0; minute < minutes.length; minute += 1) {
      if (minute % STRIDE === STRIDE - 1) yield;
      if (rates !== null) rate += rates[minute] ?? 0;
      const due = (minutes[minute] ?? 0) + rate;
      if (due > peak) [peak, peakMinute] = [due, minute];
      if (perMinute === null) continue;
      backlog = Math.max(0, backlog + due - perMinute);
      // A rate is a sum of fractions; what its rounding leaves is no work.
      if (backlog > 1e-6) first ??= minute;
      if (backlog > worst) [worst, worstMinute] = [backlog, minute];
    }
    const timeOf = (minute: number) => this.#start + minute * MINUTE_MS;
    return {
      peak: { at: timeOf(peakMinute), rotations: peak },
      overload:
        perMinute === null || first === null
          ? null
          : {
              from: timeOf(first),
              lateMinutes: Math.ceil(worst / perMinute),
              worstAt: timeOf(worstMinute),
            },
    };
  }

  #daysOf(suite: number): Float64Array {
    const found = this.#bySuite.get(suite);
    if (found !== undefined) return found;
    const days = new Float64Array(this.#days);
    this.#bySuite.set(suite, days);
    return days;
  }

  #addToDay(days: Float64Array, day: number, count: number): void {
    days[day] = (days[day] ?? 0) + count;
  }
}
