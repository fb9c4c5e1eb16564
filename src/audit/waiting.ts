/** The entries that wait for the next append, in order. */
import type { Pending } from './pending.ts';

/** Caps of one batch. */
const MAX_ENTRIES = 256;
const MAX_BYTES = 1024 * 1024;
/** Above these the log refuses: what waits longer than its deadline only costs memory. */
const MAX_WAITING = 16_384;
const MAX_WAITING_BYTES = 64 * 1024 * 1024;

export class WaitingQueue {
  #pending: Pending[] = [];
  #bytes = 0;

  get length(): number {
    return this.#pending.length;
  }

  /** What nobody waits for any more makes room first. */
  get full(): boolean {
    if (!this.#overLimits) return false;
    this.#replace(this.#pending.filter(({ settled }) => !settled));
    return this.#overLimits;
  }

  push(pending: Pending): void {
    this.#pending.push(pending);
    this.#bytes += sizeOf(pending);
  }

  /** Back to where they were: before everything else, in their order. */
  putBack(first: readonly Pending[]): void {
    this.#replace([...first, ...this.#pending]);
  }

  /**
   * Takes the next batch from the head: at most `most` entries, and one over a mebibyte at most.
   * `judge` settles those that must not be sent; what is settled is dropped.
   */
  take(judge: (pending: Pending) => void, most = MAX_ENTRIES): readonly Pending[] {
    const taken: Pending[] = [];
    let bytes = 0;
    let used = 0;
    for (const pending of this.#pending) {
      if (taken.length >= most || bytes >= MAX_BYTES) break;
      used += 1;
      judge(pending);
      if (pending.settled) continue;
      taken.push(pending);
      bytes += sizeOf(pending);
    }
    for (const gone of this.#pending.splice(0, used)) this.#bytes -= sizeOf(gone);
    return taken;
  }

  get #overLimits(): boolean {
    return this.#pending.length >= MAX_WAITING || this.#bytes >= MAX_WAITING_BYTES;
  }

  #replace(pending: Pending[]): void {
    this.#pending = pending;
    this.#bytes = pending.reduce((sum, each) => sum + sizeOf(each), 0);
  }
}

const sizeOf = ({ entry }: Pending): number => entry.facts.length;
