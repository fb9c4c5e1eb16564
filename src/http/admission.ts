/**
 * How many uses are worked on at once. Each allocates some 90 kB, much of which lives until its answer leaves, and
 * what lives longer than one round of the collector is copied from generation to generation: with 128 in
 * flight an unwrap cost a quarter more than with 64. So the rest waits, in order, before much is made for it.
 *
 * What takes longer than the rest (a token that hangs, a body that comes slowly) keeps nobody from a place:
 * it gives its own on once so many have come after it, and all do when no place comes back for a while. By how many
 * and not by how long it took: on a slow machine all take long, and places given on would make it slower.
 *
 * Who goes away while it waits leaves the line at once: an overload would otherwise go on for as long as there are
 * requests that nobody waits for any more.
 */

/** Throughput is highest with some 64: who has no more in flight waits for nobody. */
const AT_ONCE = 80;
/** Rounds of all places in which one may be overtaken. */
const ROUNDS = 2;
/** With no place that comes back, something hangs. */
const STALL_MS = 100;

/** Whoever it is done for, as far as that is asked: its connection. */
export interface Caller {
  readonly destroyed: boolean;
  /** One connection may have many requests that wait. */
  setMaxListeners(most: number): unknown;
  once(event: 'close', listener: () => void): unknown;
  off(event: 'close', listener: () => void): unknown;
}

type Turn = (place: Place | null) => void;

interface Place {
  /** Counted from 1. */
  readonly number: number;
}

export interface AdmissionOptions {
  readonly atOnce?: number;
  readonly stallMs?: number;
}

export class Admission {
  readonly #atOnce: number;
  readonly #stallMs: number;
  /** Those that are held, oldest first. */
  readonly #held = new Set<Place>();
  /** In order. */
  readonly #waiting = new Set<Turn>();
  #taken = 0;
  /** Monotonic time at which a place was taken or came back. */
  #moved = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor({ atOnce = AT_ONCE, stallMs = STALL_MS }: AdmissionOptions = {}) {
    this.#atOnce = atOnce;
    this.#stallMs = stallMs;
  }

  /**
   * Does `work` in its turn, at once where there is a place. Rejects with what it rejects with.
   * @returns false where the caller went away before its turn, and nothing was done
   */
  async run(caller: Caller, work: () => Promise<void>): Promise<boolean> {
    const place = this.#held.size < this.#atOnce ? this.#take() : await this.#turn(caller);
    if (place === null) return false;
    try {
      await work();
    } finally {
      this.#free(place);
      this.#admit();
    }
    return true;
  }

  #take(): Place {
    const place = { number: (this.#taken += 1) };
    this.#moved = performance.now();
    this.#held.add(place);
    this.#giveOn(this.#taken - ROUNDS * this.#atOnce);
    return place;
  }

  /** Null where the caller goes away before. */
  async #turn(caller: Caller): Promise<Place | null> {
    if (caller.destroyed) return null;
    const { promise, resolve: turn } = Promise.withResolvers<Place | null>();
    const leave = (): void => {
      if (this.#waiting.delete(turn)) turn(null);
    };
    caller.setMaxListeners(0);
    caller.once('close', leave);
    this.#waiting.add(turn);
    this.#watch();
    const place = await promise;
    caller.off('close', leave);
    return place;
  }

  /** What ends without a place, as it was given on, moves nothing. */
  #free(place: Place): void {
    if (this.#held.delete(place)) this.#moved = performance.now();
  }

  #admit(): void {
    while (this.#held.size < this.#atOnce) {
      const [next] = this.#waiting;
      if (next === undefined) return;
      this.#waiting.delete(next);
      next(this.#take());
    }
  }

  /** Places up to this number. */
  #giveOn(number: number): void {
    for (const place of this.#held) {
      if (place.number > number) return;
      this.#free(place);
    }
  }

  /** While any waits. */
  #watch(): void {
    if (this.#timer !== undefined || this.#waiting.size === 0) return;
    const rest = this.#moved + this.#stallMs - performance.now();
    this.#timer = setTimeout(
      () => {
        // After a stall of this process itself, what has ended meanwhile is heard first.
        setImmediate(() => {
          this.#timer = undefined;
          if (this.#moved + this.#stallMs <= performance.now()) this.#giveOn(this.#taken);
          this.#admit();
          this.#watch();
        });
      },
      Math.max(1, Math.ceil(rest)),
    ).unref();
  }
}
