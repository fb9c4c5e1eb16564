/**
 * For how long the database took no heartbeat of this instance, as long as that counts for what is known of
 * others: theirs are as old by then, and come again only in the seconds after. Times are monotonic, in ms.
 */

/** From here on two heartbeats have a silence between them. */
const SILENT_MS = 4_000;

export class Silence {
  readonly #settledMs: number;
  #last: number;
  /** The last heartbeat before the newest silence, and the first after it. */
  #began = Number.NEGATIVE_INFINITY;
  #ended = Number.NEGATIVE_INFINITY;

  /** @param settledMs after a silence, until when every instance that lives has beaten again */
  constructor(settledMs: number, now: number) {
    this.#settledMs = settledMs;
    this.#last = now;
  }

  /** A heartbeat that was sent at `sent` has been acknowledged. */
  beaten(sent: number, now: number): void {
    if (now - this.#last >= SILENT_MS) {
      this.#began = this.#start;
      this.#ended = now;
    }
    this.#last = sent;
  }

  /** 0 where all have had the time to beat again, or nothing kept them from it. */
  ms(now: number): number {
    if (now - this.#last >= SILENT_MS) return now - this.#start;
    return now - this.#ended < this.#settledMs ? this.#ended - this.#began : 0;
  }

  /** Of a silence that follows the last heartbeat: one that came right after another goes on. */
  get #start(): number {
    return this.#last - this.#ended < this.#settledMs ? this.#began : this.#last;
  }
}
