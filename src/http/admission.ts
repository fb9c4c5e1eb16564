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
 *
 * Of those that are still there, no more wait than can be done in half the time that a call of the HSM has: the
 * rest is told so at once, as a full queue of the HSM does, and not when its client is about to give up. How many that
 * are is known from the first in line: how many had their turn while it waited. Who came before it was known, or
 * while all went faster, waits for that time at most.
 */
import { TwofoldError } from '../errors.ts';

/** Throughput is highest with some 64: who has no more in flight waits for nobody. */
const AT_ONCE = 80;
/** Rounds of all places in which one may be overtaken. */
const ROUNDS = 2;
/** With no place that comes back, something hangs. */
const STALL_MS = 100;
const DEADLINE_MS = 3_000;

/** Whoever it is done for, as far as that is asked: its connection. */
export interface Caller {
  readonly destroyed: boolean;
  /** One connection may have many requests that wait. */
  setMaxListeners(most: number): unknown;
  once(event: 'close', listener: () => void): unknown;
  off(event: 'close', listener: () => void): unknown;
}

const gone = () =>
  new TwofoldError('malformed_request', 'The connection ended before it was its turn.');
const busy = () =>
  new TwofoldError('hsm_busy', 'too many uses wait for their turn', { retryAfter: 1 });

interface Waiter {
  readonly turn: (turn: Place | TwofoldError) => void;
  /** Monotonic, ms. */
  readonly since: number;
  /** How many places had been taken by then. */
  readonly taken: number;
}

interface Place {
  /** Counted from 1. */
  readonly number: number;
}

export interface AdmissionOptions {
  readonly atOnce?: number;
  readonly stallMs?: number;
  /** Longest wait for a turn, give or take `stallMs`. */
  readonly deadlineMs?: number;
}

export interface AdmissionFigures {
  /** With those whose place was given on. */
  readonly underWay: number;
  readonly waiting: number;
  /** Since the start, for lack of a turn in time. */
  readonly refused: number;
}

export class Admission {
  readonly #atOnce: number;
  readonly #stallMs: number;
  readonly #deadlineMs: number;
  /** Those that are held, oldest first. */
  readonly #held = new Set<Place>();
  /** In order. */
  readonly #waiting = new Set<Waiter>();
  #taken = 0;
  #underWay = 0;
  #refused = 0;
  /** Monotonic time at which a place was taken or came back. */
  #moved = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor({
    atOnce = AT_ONCE,
    stallMs = STALL_MS,
    deadlineMs = DEADLINE_MS,
  }: AdmissionOptions = {}) {
    this.#atOnce = atOnce;
    this.#stallMs = stallMs;
    this.#deadlineMs = deadlineMs;
  }

  figures(): AdmissionFigures {
    return { underWay: this.#underWay, waiting: this.#waiting.size, refused: this.#refused };
  }

  /**
   * Does `work` in its turn, at once where there is a place. Rejects with what it rejects with.
   * @returns why nothing was done: `malformed_request` where the caller went away before its turn,
   *   `hsm_busy` where that would not come in time; null where it was done
   */
  async run(caller: Caller, work: () => Promise<void>): Promise<TwofoldError | null> {
    const place = this.#held.size < this.#atOnce ? this.#take() : await this.#turn(caller);
    if (place instanceof TwofoldError) return place;
    this.#underWay += 1;
    try {
      await work();
    } finally {
      this.#underWay -= 1;
      this.#free(place);
      this.#admit();
    }
    return null;
  }

  #take(): Place {
    const place = { number: (this.#taken += 1) };
    this.#moved = performance.now();
    this.#held.add(place);
    this.#giveOn(this.#taken - ROUNDS * this.#atOnce);
    return place;
  }

  async #turn(caller: Caller): Promise<Place | TwofoldError> {
    if (caller.destroyed) return gone();
    const since = performance.now();
    if (this.#full(since)) return this.#refuse();
    const { promise, resolve: turn } = Promise.withResolvers<Place | TwofoldError>();
    const waiter = { turn, since, taken: this.#taken };
    const leave = (): void => {
      if (this.#waiting.delete(waiter)) turn(gone());
    };
    caller.setMaxListeners(0);
    caller.once('close', leave);
    this.#waiting.add(waiter);
    this.#watch();
    const place = await promise;
    caller.off('close', leave);
    return place;
  }

  /** Whether one more would wait too long, as far as the first in line has seen places taken. */
  #full(now: number): boolean {
    const [first] = this.#waiting;
    if (first === undefined) return false;
    const turns = this.#taken - first.taken;
    // Fewer than a round say too little: all places may have been taken a moment ago.
    if (turns < this.#atOnce) return false;
    return ((now - first.since) / turns) * this.#waiting.size > this.#deadlineMs / 2;
  }

  #refuse(): TwofoldError {
    this.#refused += 1;
    return busy();
  }

  /** Those that have waited too long all the same. */
  #dismiss(now: number): void {
    for (const waiter of this.#waiting) {
      if (waiter.since + this.#deadlineMs > now) return;
      this.#waiting.delete(waiter);
      waiter.turn(this.#refuse());
    }
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
      next.turn(this.#take());
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
          const now = performance.now();
          if (this.#moved + this.#stallMs <= now) this.#giveOn(this.#taken);
          this.#admit();
          this.#dismiss(now);
          this.#watch();
        });
      },
      Math.max(1, Math.ceil(rest)),
    ).unref();
  }
}
