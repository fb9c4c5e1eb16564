/**
 * Brings forward who waits for a turn while rotations are left over.
 *
 * Turns are given one after the other, and those of keys that leave the line (their policy was deleted, paused,
 * changed) stay given: without this, who comes next waits behind all of them for a budget that nobody uses.
 */
import type { Budget } from './budget.ts';
import type { SchedulerStore } from './scheduler-ports.ts';

export class BringForward {
  readonly #store: Pick<SchedulerStore, 'bringForward'>;
  readonly #budget: Budget;
  /** How far it has looked at who waits; null: it begins with the next one. */
  #after: Date | null = null;
  /** Whether it has found one since it began. */
  #found = false;

  constructor(store: Pick<SchedulerStore, 'bringForward'>, budget: Budget) {
    this.#store = store;
    this.#budget = budget;
  }

  /** After a tick: as many as there are rotations left, or a step of the way to them. */
  async run(now: Date): Promise<void> {
    const left = this.#budget.left(now.getTime());
    const until = new Date(this.#budget.reservedUntil(now.getTime()));
    if (left < 1 || until <= now) return;
    if (this.#after === null || this.#after < now || this.#after > until) {
      this.#after = now;
      this.#found = false;
    }
    const { moved, reached } = await this.#store.bringForward(
      now,
      { after: this.#after, until },
      left,
    );
    this.#found ||= moved > 0;
    if (reached === null && !this.#found) this.#budget.giveBack(now.getTime());
    this.#after = reached;
  }
}
