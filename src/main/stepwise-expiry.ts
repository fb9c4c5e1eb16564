/** Removes what is older than it is kept for, in steps that hold nothing up. */
import { setTimeout as sleep } from 'node:timers/promises';

import { earlier, storedDuration } from '../keyring/durations.ts';
import type { KeyStore } from '../keyring/ports.ts';

export const EVERY_MS = 3_600_000;
/** Rows of one statement. */
const STEP = 10_000;
/** Between two steps, ms. */
const PAUSE_MS = 100;

/** A table from which at most `limit` rows of before a time can be removed; answers how many were. */
export interface Expiring {
  expire(before: Date, limit: number): Promise<number>;
}

/** By the earlier of the clocks of this server and of the database: one that runs ahead removes nothing early. */
export async function earlierNow({ wallClock }: Pick<KeyStore, 'wallClock'>): Promise<Date> {
  const theirs = await wallClock();
  const ours = new Date();
  return theirs !== null && theirs < ours ? theirs : ours;
}

export class StepwiseExpiry {
  readonly #rows: Expiring;
  readonly #retention: string;
  readonly #clock: () => Promise<Date>;
  readonly #onFailure: (error: unknown) => void;
  readonly #stopping = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> = Promise.resolve();

  /** @param retention ISO 8601 */
  constructor(
    rows: Expiring,
    {
      retention,
      clock,
      onFailure,
    }: {
      readonly retention: string;
      readonly clock: () => Promise<Date>;
      readonly onFailure: (error: unknown) => void;
    },
  ) {
    this.#rows = rows;
    this.#retention = retention;
    this.#clock = clock;
    this.#onFailure = onFailure;
    this.#timer = setInterval(() => {
      this.#running = this.#running.then(() => this.round());
    }, EVERY_MS).unref();
  }

  /** Removes all that is too old by now. Never rejects. */
  async round(): Promise<void> {
    const { signal } = this.#stopping;
    try {
      const now = await this.#clock();
      const before = new Date(earlier(now.getTime(), storedDuration(this.#retention)));
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
