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

export class WholeMetrics {
  #ended: Figures = [];

  /** A worker has ended; `last` is what it had counted when it was last asked. */
  async end(last: Figures): Promise<void> {
    const growing = last.filter(({ type }) => GROWING.has(type));
    const together = aggregate([this.#ended, growing]);
    this.#ended = (await together.getMetricsAsJSON()) as unknown as Figures;
  }

  /** @param running the figures of the workers that run, made now */
  async render(running: readonly Figures[]): Promise<Rendered> {
    const whole = aggregate([...running, this.#ended]);
    return { contentType: whole.contentType, body: await whole.metrics() };
  }
}
