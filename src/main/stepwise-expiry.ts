/** Removes what is older than it is kept for, in steps that hold nothing up. */
import { setTimeout as sleep } from 'node:timers/promises';

import { earlier, storedDuration } from '../keyring/durations.ts';

export const EVERY_MS = 3_600_000;
/** Rows of one statement. */
const STEP = 10_000;
/** Between two steps, ms. */
const PAUSE_MS = 100;

/** A table from which at most `limit` rows of before a time can be removed; answers how many were. */
export interface Expiring {
  expire(before: Date, limit: number): Promise<number>;
}

export class StepwiseExpiry {
  readonly #rows: Expiring;
  readonly #retention: string;
  readonly #onFailure: (error: unknown) => void;
  readonly #stopping = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> = Promise.resolve();

  /** @param retention ISO 8601 */
  constructor(rows: Expiring, retention: string, onFailure: (error: unknown) => void) {
    this.#rows = rows;
    this.#retention = retention;
    this.#onFailure = onFailure;
    this.#timer = setInterval(() => {
      this.#running = this.#running.then(() => this.round(new Date()));
    }, EVERY_MS).unref();
  }

  /** Removes all that is too old at `now`. Never rejects. */
  async round(now: Date): Promise<void> {
    const before = new Date(earlier(now.getTime(), storedDuration(this.#retention)));
    const { signal } = this.#stopping;
    try {
      while (!signal.aborted && (await this.#rows.expire(before, STEP)) >= STEP) {
        await sleep(PAUSE_MS, undefined, { signal }).catch(() => undefined);
      }
    } catch (error) {
      this.#onFailure(error);
    }
  }

  /** Resolves when no step is under way. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#stopping.abort();
    await this.#running;
  }
}
