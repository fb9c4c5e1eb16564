/** How many rotations may be made: so many a minute, evenly. What came together is no burst of work. */
const MINUTE_MS = 60_000;
/** Rotations that may follow each other at once are those of so long a time. */
const BURST_MS = 2_000;

export class Budget {
  /** Milliseconds from one to the next. */
  readonly apartMs: number;
  /** What may be taken at once: what falls due between two ticks. */
  readonly #most: number;
  #tokens: number;
  #at: number | null = null;
  #reserved = 0;

  constructor(perMinute: number) {
    this.apartMs = MINUTE_MS / perMinute;
    this.#most = Math.max(1, BURST_MS / this.apartMs);
    this.#tokens = this.#most;
  }

  /** Rotations that may be made at `now`, ms. */
  left(now: number): number {
    const passed = this.#at === null ? 0 : now - this.#at;
    // A clock that was set back makes nobody wait for the times that it had reached.
    if (passed < 0) this.#reserved = now;
    this.#tokens = Math.min(this.#most, this.#tokens + Math.max(0, passed) / this.apartMs);
    this.#at = now;
    return Math.floor(this.#tokens);
  }

  take(now: number): boolean {
    if (this.left(now) < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /** When the next one may be made, whoever makes it. */
  next(now: number): Date {
    const missing = this.left(now) < 1 ? 1 - this.#tokens : 0;
    return new Date(Math.ceil(now + missing * this.apartMs));
  }

  /** No turn that was given and stands is later: a clock that was set back takes those of its future. */
  reservedUntil(now: number): number {
    this.left(now);
    return Math.ceil(this.#reserved);
  }

  /** When there will be one for who finds none: those who wait come one after the other, and once. */
  reserve(now: number): Date {
    this.#reserved = Math.max(this.#reserved, now) + this.apartMs;
    return new Date(Math.ceil(this.#reserved));
  }

  /** Nobody waits: the turns that were given are those of who left, or had theirs. */
  giveBack(now: number): void {
    this.#reserved = Math.min(this.#reserved, now);
  }
}

/** Keys of which it is remembered when their turn is. */
const TURNS_KEPT = 10_000;

/** Keys that find nothing left of a budget wait in a line, each in its place. */
export class Line {
  readonly budget: Budget;
  readonly #turns = new Map<string, Date>();

  constructor(budget: Budget) {
    this.budget = budget;
  }

  /** When it is the key's turn, and once that has passed when the next one may be made. */
  turnOf(keyId: string, now: number): Date {
    const kept = this.#turns.get(keyId);
    const isOfNow = kept !== undefined && kept.getTime() <= this.budget.reservedUntil(now);
    const turn = isOfNow ? kept : this.budget.reserve(now);
    this.#keep(keyId, turn);
    return turn.getTime() > now ? turn : this.budget.next(now);
  }

  /** It had its turn, or waits for nothing any more. */
  leave(keyId: string): void {
    this.#turns.delete(keyId);
  }

  /** Looks before its turn, since something else is due or changed, do not send a key to the end of the line. */
  #keep(keyId: string, turn: Date): void {
    this.#turns.set(keyId, turn);
    const [oldest] = this.#turns.keys();
    if (this.#turns.size > TURNS_KEPT && oldest !== undefined) this.#turns.delete(oldest);
  }
}
