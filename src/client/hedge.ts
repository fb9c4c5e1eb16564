/**
 * One request, to the first of several equal places that answers it: the first place at once, the next
 * when the one before has failed or has been silent for a while, nothing after the budget.
 */

export interface HedgeTimes {
  /** How long a place may be silent before the next is asked too. */
  readonly hedgeMs: number;
  /** After it everything has ended. */
  readonly budgetMs: number;
  /** No attempt begins with less time than this left. */
  readonly leastMs: number;
  /** Before all places are asked once more that have failed. */
  readonly pauseMs: number;
}

export interface Hedging<P, T> {
  /** In the order in which they are asked; at least one. */
  readonly places: readonly P[];
  readonly attempt: (place: P, signal: AbortSignal) => Promise<T>;
  /** Whether another place, or the same one later, may answer otherwise; `others` are asked at the moment. */
  readonly passes: (error: unknown, place: P, others: number) => boolean;
  /** What came too late. */
  readonly drop: (late: T) => void;
  /** What is thrown when the budget is used up; `error` is what a place last failed with, if one has. */
  readonly late: (error: unknown) => unknown;
  readonly times: HedgeTimes;
}

/** Who answered, and which places were asked and have not. */
export interface Hedged<P, T> {
  readonly value: T;
  readonly place: P;
  readonly silent: readonly P[];
}

/** @throws what a place fails with for good; `late`; the reason of `signal` */
export function hedged<P, T>(hedging: Hedging<P, T>, signal: AbortSignal): Promise<Hedged<P, T>> {
  return new Race(hedging, signal).run();
}

class Race<P, T> {
  readonly #hedging: Hedging<P, T>;
  readonly #outer: AbortSignal;
  readonly #ending = new AbortController();
  readonly #result = Promise.withResolvers<Hedged<P, T>>();
  readonly #running = new Set<P>();
  readonly #failed = new Set<P>();
  readonly #began = performance.now();
  #next: NodeJS.Timeout | undefined;
  #error: unknown = undefined;

  constructor(hedging: Hedging<P, T>, outer: AbortSignal) {
    this.#hedging = hedging;
    this.#outer = outer;
  }

  async run(): Promise<Hedged<P, T>> {
    const { times, late } = this.#hedging;
    const over = setTimeout(() => this.#result.reject(late(this.#error)), times.budgetMs);
    const aborted = () => this.#result.reject(this.#outer.reason as Error);
    this.#outer.addEventListener('abort', aborted);
    try {
      this.#outer.throwIfAborted();
      this.#begin();
      return await this.#result.promise;
    } finally {
      clearTimeout(over);
      clearTimeout(this.#next);
      this.#outer.removeEventListener('abort', aborted);
      this.#ending.abort();
    }
  }

  #begin(): void {
    const { places, attempt, times } = this.#hedging;
    clearTimeout(this.#next);
    if (this.#ending.signal.aborted) return;
    const idle = places.filter((place) => !this.#running.has(place));
    // Again in turn: first whoever failed longest ago.
    const [again] = this.#failed;
    const place = idle.find((each) => !this.#failed.has(each)) ?? again;
    if (place === undefined || this.#left() < times.leastMs) return;
    this.#failed.delete(place);
    this.#running.add(place);
    attempt(place, this.#ending.signal).then(
      (value) => this.#won(place, value),
      (error: unknown) => this.#lost(place, error),
    );
    if (this.#untried()) this.#beginIn(times.hedgeMs);
  }

  #won(place: P, value: T): void {
    if (this.#ending.signal.aborted) {
      this.#hedging.drop(value);
      return;
    }
    const silent = [...this.#running, ...this.#failed].filter((each) => each !== place);
    this.#ending.abort();
    this.#result.resolve({ value, place, silent });
  }

  #lost(place: P, error: unknown): void {
    this.#running.delete(place);
    if (this.#ending.signal.aborted) return;
    if (!this.#hedging.passes(error, place, this.#running.size)) {
      this.#result.reject(error);
      return;
    }
    this.#error = error;
    this.#failed.add(place);
    const { pauseMs, leastMs } = this.#hedging.times;
    const pause = this.#untried() ? 0 : pauseMs;
    if (this.#left() - pause >= leastMs) this.#beginIn(pause);
    // No other attempt comes: what is under way may still answer.
    else if (this.#running.size === 0) this.#result.reject(this.#hedging.late(error));
  }

  #beginIn(milliseconds: number): void {
    clearTimeout(this.#next);
    this.#next = setTimeout(() => this.#begin(), milliseconds);
  }

  /** Whether a place is neither asked at the moment nor has failed. */
  #untried(): boolean {
    const { places } = this.#hedging;
    return places.some((place) => !this.#running.has(place) && !this.#failed.has(place));
  }

  #left(): number {
    return this.#hedging.times.budgetMs - (performance.now() - this.#began);
  }
}
