/** Removes events that are older than the configuration keeps them, in steps that hold nothing up. */
import { setTimeout as sleep } from 'node:timers/promises';

import { earlier, storedDuration } from '../keyring/durations.ts';
import type { EventStore } from '../keyring/event-ports.ts';

const EVERY_MS = 3_600_000;
/** Events of one statement. */
const STEP = 10_000;
/** Between two steps, ms. */
const PAUSE_MS = 100;

export class EventExpiry {
  readonly #events: Pick<EventStore, 'expire'>;
  readonly #retention: string;
  readonly #onFailure: (error: unknown) => void;
  readonly #stopping = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> = Promise.resolve();

  /** @param retention ISO 8601 */
  constructor(
    events: Pick<EventStore, 'expire'>,
    retention: string,
    onFailure: (error: unknown) => void,
  ) {
    this.#events = events;
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
      while (!signal.aborted && (await this.#events.expire(before, STEP)) >= STEP) {
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
