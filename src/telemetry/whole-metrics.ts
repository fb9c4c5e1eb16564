/**
 * The metrics of several workers as one: sums, but for what `Metrics.gauge` was told otherwise.
 *
 * Counters never fall: what an ended worker had counted when it was last asked stays in them.
 */
import { AggregatorRegistry } from 'prom-client';
import type { Figures, Rendered } from './metrics.ts';

type Aggregated = Parameters<typeof AggregatorRegistry.aggregate>[0];

/** Kinds whose values only ever grow; a gauge of what has ended is no figure of the present. */
const GROWING: ReadonlySet<string> = new Set(['counter', 'histogram']);

/** prom-client's types take an array of metrics where it wants one per process. */
const aggregate = (all: readonly Figures[]) => AggregatorRegistry.aggregate(all as Aggregated);

/** A worker that runs. */
export interface Counting {
  /** Renews `lastFigures`, where it answers in time. */
  ask(what: 'figures'): Promise<unknown>;
  readonly lastFigures: Figures;
}

export class WholeMetrics {
  /** Those before the last few are one sum. */
  readonly #ended: Figures[] = [];
  #summed: Promise<void> = Promise.resolve();

  /**
   * A worker runs no more, from this call on; `last` is what it had counted when it was last asked.
   * Resolves when that is in the sum.
   */
  end(last: Figures): Promise<void> {
    this.#ended.push(last.filter(({ type }) => GROWING.has(type)));
    this.#summed = this.#summed.then(() => this.#sum());
    return this.#summed;
  }

  /** @param running the workers that run, at each call */
  async render(running: () => readonly Counting[]): Promise<Rendered> {
    await Promise.all(running().map((worker) => worker.ask('figures')));
    // Who ended meanwhile is among those that have ended.
    const figures = running().map(({ lastFigures }) => lastFigures);
    const whole = aggregate([...figures, ...this.#ended]);
    return { contentType: whole.contentType, body: await whole.metrics() };
  }

  async #sum(): Promise<void> {
    const all = [...this.#ended];
    const sum = (await aggregate(all).getMetricsAsJSON()) as unknown as Figures;
    this.#ended.splice(0, all.length, sum);
  }
}
