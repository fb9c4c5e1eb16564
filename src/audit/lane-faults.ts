/** The lanes at fault: held until they are looked at again, so that a repair needs no restart. */
import type { LaneFault } from './intake.ts';

/** How long a lane at fault is left alone. */
const AGAIN_MS = 30_000;

export interface LaneFaultOptions {
  readonly onFault: (fault: LaneFault) => void;
  readonly onMended: (lane: number) => void;
  readonly monotonic: () => number;
}

interface Held {
  readonly fault: LaneFault;
  readonly until: number;
}

export class LaneFaults {
  readonly #options: LaneFaultOptions;
  readonly #held = new Map<number, Held>();

  constructor({ onFault, onMended, monotonic }: LaneFaultOptions) {
    this.#options = { onFault, onMended, monotonic };
  }

  get all(): readonly LaneFault[] {
    return [...this.#held.values()].map(({ fault }) => fault);
  }

  /** Whether the lane is left alone now. */
  holds(lane: number): boolean {
    return this.#options.monotonic() < (this.#held.get(lane)?.until ?? Number.NEGATIVE_INFINITY);
  }

  /** What a look at the lane came to; null: nothing is wrong. */
  found(lane: number, fault: LaneFault | null): void {
    const before = this.#held.get(lane)?.fault;
    if (fault === null) {
      if (before !== undefined) this.advanced(lane);
      return;
    }
    this.#held.set(lane, { fault, until: this.#options.monotonic() + AGAIN_MS });
    if (before?.n !== fault.n || before.reason !== fault.reason) this.#options.onFault(fault);
  }

  /** Entries of the lane were taken, to its end: what was wrong with it is not any more. */
  advanced(lane: number): void {
    if (this.#held.get(lane) === undefined || this.holds(lane)) return;
    this.#held.delete(lane);
    this.#options.onMended(lane);
  }
}
