/** How long operations with keys of each suite took in this process since it started. */
import { DurationCounts } from './durations.ts';

export interface OperationTime {
  readonly operation: string;
  readonly count: number;
  /** Of all that succeeded, within the precision of `DurationCounts`. */
  readonly medianMs: number;
}

/** Bounded by the table of suites and that of operations, whose names alone are recorded. */
export class SuiteTimes {
  readonly #suites = new Map<string, Map<string, DurationCounts>>();

  record(suite: string, operation: string, milliseconds: number): void {
    const operations = this.#suites.get(suite) ?? new Map<string, DurationCounts>();
    const counts = operations.get(operation) ?? new DurationCounts();
    counts.add(milliseconds);
    operations.set(operation, counts);
    this.#suites.set(suite, operations);
  }

  /** By operation; empty where the suite was not used yet. */
  of(suite: string): readonly OperationTime[] {
    return [...(this.#suites.get(suite) ?? [])]
      .map(([operation, counts]) => ({
        operation,
        count: counts.total,
        medianMs: counts.quantile(0.5) ?? 0,
      }))
      .toSorted((a, b) => (a.operation < b.operation ? -1 : 1));
  }
}
