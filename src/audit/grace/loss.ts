/**
 * Whether what stands in a spool can never come into the database. A replay is refused before it
 * commits, so an old primary can refuse it too, or a database in the middle of a fail-over: what was
 * answered is not given up for that alone, but for what a committed read found.
 */
import { equalBytes } from '../../crypto/bytes.ts';
import { LaneLost } from '../../outcome.ts';
import { decodeEntry } from '../entry-decoder.ts';
import type { AppendBatch, AuditStore } from '../ports.ts';
import { isFinal } from '../settlement.ts';

/** Refusals in a row, each beside a committed read that does not explain it: some seconds. */
const MOST_REFUSALS = 40;

/** Refusals of one replay that is sent again and again. */
export class Refusals {
  readonly #store: Pick<AuditStore, 'leafAt'>;
  #count = 0;

  constructor(store: Pick<AuditStore, 'leafAt'>) {
    this.#store = store;
  }

  /** A replay came back. */
  reset(): void {
    this.#count = 0;
  }

  /**
   * Whether the replay of these batches, refused with `error`, is given up. What repeating ends is not
   * counted, nor what is refused while no committed read comes back.
   * @throws TwofoldError of the read, while the database does not commit
   */
  async end(error: unknown, batches: readonly AppendBatch[]): Promise<boolean> {
    if (!isRefusal(error)) {
      this.#count = 0;
      return false;
    }
    if (await this.#isLost(batches)) return true;
    this.#count += 1;
    return this.#count >= MOST_REFUSALS;
  }

  /** What came before is not there, or other entries stand in their places. */
  async #isLost(batches: readonly AppendBatch[]): Promise<boolean> {
    const entries = batches.flatMap((batch) => batch.entries);
    const [begin, head, tail] = [batches[0], entries[0], entries.at(-1)];
    if (begin === undefined || head === undefined || tail === undefined) return false;
    const { lane, first } = begin;
    const at = (n: number): Promise<Uint8Array | null> => this.#store.leafAt(lane, n);
    // The place before the first is read in any case: whoever counts a refusal has seen a commit.
    const before = await at(Math.max(1, first - 1));
    const { previous } = decodeEntry(head.body);
    if (first > 1 && (before === null || !equalBytes(before, previous))) return true;
    return (
      isOther(await at(first), head.leaf) ||
      isOther(await at(first + entries.length - 1), tail.leaf)
    );
  }
}

/** Whether nothing but the state of the database, as this server of it sees it, stands in the way. */
export const isRefusal = (error: unknown): boolean => error instanceof LaneLost || isFinal(error);

const isOther = (found: Uint8Array | null, expected: Uint8Array): boolean =>
  found !== null && !equalBytes(found, expected);
