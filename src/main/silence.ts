/**
 * For how long the database took no heartbeat of this instance, as long as that counts for what is known of
 * others: theirs are as old by then, and come again only in the seconds after. Times are monotonic, in ms.
 */

/** From here on two heartbeats have a silence between them. */
const SILENT_MS = 4_000;

/** What a process that has just started may have missed: it could have waited for the end of an outage as long. */
export const UNKNOWN_MS = 86_400_000;

export class Silence {
  readonly #settledMs: number;
  #last: number;
  /** The last heartbeat before the newest silence, and the first after it. */
  #began: number;
  #ended: number;

  /**
   * @param settledMs after a silence, until when every instance that lives has beaten again
   * @param now of the first heartbeat, before which nobody here knows of any
   */
  constructor(settledMs: number, now: number) {
    this.#settledMs = settledMs;
    this.#last = now;
    this.#began = now - UNKNOWN_MS;
    this.#ended = now;
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
