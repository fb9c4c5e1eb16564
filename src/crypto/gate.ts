/** Bounds how many long operations run at the same time, and how many wait for their turn. */
import { TwofoldError } from '../errors.ts';

export class Gate {
  readonly #atOnce: number;
  readonly #limit: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(atOnce: number, waiting: number) {
    this.#atOnce = atOnce;
    this.#limit = waiting;
  }

  /** @throws TwofoldError rate_limited when too many wait, and what `work` threw */
  async run<T>(work: () => Promise<T>): Promise<T> {
    await this.#enter();
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  async #enter(): Promise<void> {
    if (this.#running < this.#atOnce) {
      this.#running += 1;
      return;
    }
    if (this.#waiting.length >= this.#limit) {
      const detail = 'Too many slow post-quantum operations wait for their turn.';
      throw new TwofoldError('rate_limited', detail, { retryAfter: 1 });
    }
    // Whoever leaves hands its place over, so nobody can come between.
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running -= 1;
    else next();
  }
}
