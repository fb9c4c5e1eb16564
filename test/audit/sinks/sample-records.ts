/** A log in memory whose entries are known, and what a sink makes of them. */
import type { Archived } from '../../../src/audit/archive-ports.ts';
import type { SequencedEntry } from '../../../src/audit/log-ports.ts';
import { NO_COLUMNS } from '../drafts.ts';
import type { SinkPosition, SinkRecord } from '../../../src/audit/sinks/ports.ts';

export const sample = (index: number, change: Partial<SinkRecord> = {}): SinkRecord => ({
  index,
  id: `1-${String(index)}`,
  at: new Date(1_700_000_000_000 + index),
  operation: 'wrap',
  outcome: 'ok',
  namespace: 'root',
  json: JSON.stringify({
    ...{ index, id: `1-${String(index)}`, at: new Date(1_700_000_000_000 + index) },
  }),
  ...change,
});

export const samples = (count: number, from = 0): SinkRecord[] =>
  Array.from({ length: count }, (_, position) => sample(from + position));

const NOTHING = new Uint8Array();

/** Only the index means anything; `record` of the runner is `({ index }) => sample(index)`. */
export const memoryEntries = (size: number) => ({
  asked: 0,
  removed: 0,
  /** Marked as archived, though rows may still be there. */
  until: 0,
  archived(): Promise<Archived> {
    const { until, removed } = this;
    return Promise.resolve({ until, removed, place: 'the shelf' });
  },
  entries(from: number, until: number): Promise<readonly SequencedEntry[]> {
    this.asked = Math.max(this.asked, until - from);
    const count = Math.max(0, Math.min(size, until) - from);
    return Promise.resolve(
      Array.from({ length: count }, (_, position) => {
        const index = from + position;
        return { index, lane: 1, n: index, leaf: NOTHING, body: NOTHING, columns: NO_COLUMNS };
      }),
    );
  },
});

export class MemoryPosition implements SinkPosition {
  at: number | null = null;

  next = () => Promise.resolve(this.at);

  advance = (from: number | null, to: number) => {
    if (this.at !== from) return Promise.resolve(false);
    this.at = to;
    return Promise.resolve(true);
  };
}
