/**
 * How many uses are worked on at once. Each allocates some 90 kB, much of which lives until its answer leaves, and
 * what lives longer than one round of the collector is copied from generation to generation: with 128 in
 * flight an unwrap cost a quarter more than with 64. So the rest waits, in order, before much is made for it.
 *
 * What takes longer than the rest (a token that hangs, a body that comes slowly) keeps nobody from a place:
 * it gives its own on once so many have come after it, and all do when none ends for a while. By how many and not by
 * how long it took: on a slow machine all take long, and places given on would make it slower.
 */

/** Throughput is highest with some 64: who has no more in flight waits for nobody. */
const AT_ONCE = 80;
/** Rounds of all places in which one may be overtaken. */
const ROUNDS = 2;
/** With nothing that ends, something hangs. */
const STALL_MS = 100;

interface Place {
  /** Counted from 1. */
  readonly number: number;
  held: boolean;
}

export interface AdmissionOptions {
  readonly atOnce?: number;
  readonly stallMs?: number;
}

export class Admission {
  readonly #atOnce: number;
  readonly #stallMs: number;
  /** Oldest first; what was given back stays until nothing older is held. */
  readonly #places = new Line<Place>();
  readonly #waiting = new Line<(place: Place) => void>();
  #held = 0;
  #taken = 0;
  /** Monotonic time at which one began or ended. */
  #moved = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor({ atOnce = AT_ONCE, stallMs = STALL_MS }: AdmissionOptions = {}) {
    this.#atOnce = atOnce;
    this.#stallMs = stallMs;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Does `work` in its turn, at once where there is a place. Rejects with what it rejects with. */
  async run(work: () => Promise<void>): Promise<void> {
    const place = this.#held < this.#atOnce ? this.#take() : await this.#turn();
    try {
      await work();
    } finally {
      this.#free(place);
      this.#admit();
    }
  }

  #take(): Place {
    const place = { number: (this.#taken += 1), held: true };
    this.#held += 1;
    this.#moved = performance.now();
    this.#places.push(place);
    this.#giveOn(this.#taken - ROUNDS * this.#atOnce);
    return place;
  }

  #turn(): Promise<Place> {
    const turn = new Promise<Place>((resolve) => this.#waiting.push(resolve));
    this.#watch();
    return turn;
  }

  #free(place: Place): void {
    this.#moved = performance.now();
    if (!place.held) return;
    place.held = false;
    this.#held -= 1;
  }

  #admit(): void {
    while (this.#held < this.#atOnce) {
      const admitted = this.#waiting.shift();
      if (admitted === undefined) return;
      admitted(this.#take());
    }
  }

  /** Places up to this number, and those behind them that were given back. */
  #giveOn(number: number): void {
    for (let place = this.#places.first; place !== undefined; place = this.#places.first) {
      if (place.held && place.number > number) return;
      this.#free(place);
      this.#places.shift();
    }
  }

  /** While any waits. */
  #watch(): void {
    if (this.#timer !== undefined || this.#waiting.length === 0) return;
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

/** Empty places in front of a line that are not worth its being made anew. */
const SPARE = 64;

/** First in, first out, however long it gets. */
class Line<T> {
  #items: (T | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  get first(): T | undefined {
    return this.#items[this.#head];
  }

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.#items[this.#head];
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head >= SPARE && this.#head * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }
}
