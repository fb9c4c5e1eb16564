/**
 * What the service did in the last minutes, for people who look: a bounded ring of steps of five
 * seconds. A request costs a few increments of counters; everything else happens when a step ends.
 *
 * Names of groups are the caller's, of a fixed set; nothing that a client sends is kept.
 */
import { DurationCounts } from './durations.ts';
import type { RequestFigures } from './metrics.ts';

export const STEP_SECONDS = 5;
/** Steps that are kept: fifteen minutes. */
export const STEPS = 180;

/** Milliseconds between looks at figures that only have a present value. */
const LOOK_MS = 1_000;
const STEP_MS = STEP_SECONDS * 1_000;
const SERVER_FAULT = 500;
const CLIENT_FAULT = 400;

/** Rates are per second, durations in ms. */
interface Step<G extends string> {
  readonly requests: Readonly<Record<G, number>>;
  readonly refused: number;
  readonly failed: number;
  readonly p50: number | null;
  readonly p99: number | null;
  readonly queued: number;
}

/** One value a step, the latest last; null where nothing was measured. */
export type Series = (number | null)[];

export interface History<G extends string> {
  readonly requests: Record<G, Series>;
  /** Answered with 4xx, and with 5xx; they are among the requests. */
  readonly refused: Series;
  readonly failed: Series;
  readonly p50: Series;
  readonly p99: Series;
  /** Most calls that waited or ran at one of the looks. */
  readonly queued: Series;
}

export interface ActivityOptions<G extends string> {
  readonly groups: readonly G[];
  /** The group of a route, null for no route; what has none is not counted. */
  readonly groupOf: (route: string | null) => G | null;
  /** HSM calls that wait or run. */
  readonly queued: () => number;
  /** Monotonic, ms; `performance.now` by default. */
  readonly clock?: () => number;
}

export class Activity<G extends string> {
  readonly #options: ActivityOptions<G>;
  readonly #clock: () => number;
  readonly #counts = new Map<G, number>();
  readonly #durations = new DurationCounts();
  #refused = 0;
  #failed = 0;
  #queued = 0;
  #since: number;
  /** Null for steps in which nobody looked: the process stood still. */
  readonly #steps: (Step<G> | null)[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ActivityOptions<G>) {
    this.#options = options;
    this.#clock = options.clock ?? (() => performance.now());
    this.#since = this.#clock();
  }

  /** Looks once a second until closed. */
  start(): void {
    this.#timer = setInterval(() => this.look(), LOOK_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  request({ route, status, milliseconds }: RequestFigures): void {
    const group = this.#options.groupOf(route);
    if (group === null) return;
    this.#counts.set(group, (this.#counts.get(group) ?? 0) + 1);
    this.#durations.add(milliseconds);
    if (status >= SERVER_FAULT) this.#failed += 1;
    else if (status >= CLIENT_FAULT) this.#refused += 1;
  }

  look(): void {
    this.#queued = Math.max(this.#queued, this.#options.queued());
    const elapsed = this.#clock() - this.#since;
    // A timer that is a little early ends the step all the same.
    if (elapsed > STEP_MS - LOOK_MS / 2) this.#endStep(elapsed);
  }

  history(): History<G> {
    const column = (read: (step: Step<G>) => number | null): Series =>
      this.#steps.map((step) => (step === null ? null : read(step)));
    const { groups } = this.#options;
    const requests = groups.map((group) => [group, column((step) => step.requests[group])]);
    return {
      requests: Object.fromEntries(requests) as Record<G, Series>,
      refused: column(({ refused }) => refused),
      failed: column(({ failed }) => failed),
      p50: column(({ p50 }) => p50),
      p99: column(({ p99 }) => p99),
      queued: column(({ queued }) => queued),
    };
  }

  #endStep(elapsed: number): void {
    const missed = Math.min(Math.round(elapsed / STEP_MS) - 1, STEPS);
    for (let n = 0; n < missed; n += 1) this.#steps.push(null);
    this.#steps.push(this.#stepOf(elapsed / 1_000));
    this.#steps.splice(0, this.#steps.length - STEPS);
    this.#since += elapsed;
    this.#counts.clear();
    this.#durations.clear();
    this.#refused = this.#failed = this.#queued = 0;
  }

  #stepOf(seconds: number): Step<G> {
    const rate = (count: number) => rounded(count / seconds);
    const { groups } = this.#options;
    const requests = groups.map((group) => [group, rate(this.#counts.get(group) ?? 0)]);
    return {
      requests: Object.fromEntries(requests) as Record<G, number>,
      refused: rate(this.#refused),
      failed: rate(this.#failed),
      p50: quantile(this.#durations, 0.5),
      p99: quantile(this.#durations, 0.99),
      queued: this.#queued,
    };
  }
}

/** Three places say all that five seconds can. */
const rounded = (value: number): number => Math.round(value * 1_000) / 1_000;

const quantile = (durations: DurationCounts, q: number): number | null => {
  const value = durations.quantile(q);
  return value === null ? null : rounded(value);
};
