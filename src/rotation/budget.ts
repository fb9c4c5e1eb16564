/** How many rotations may be made: so many a minute, and no more at once. */
const MINUTE_MS = 60_000;

export class Budget {
  readonly #perMinute: number;
  #tokens: number;
  #at: number | null = null;

  constructor(perMinute: number) {
    this.#perMinute = perMinute;
    this.#tokens = perMinute;
  }

  /** Rotations that may be made at `now`, ms. */
  left(now: number): number {
    const passed = this.#at === null ? 0 : Math.max(0, now - this.#at);
    this.#tokens = Math.min(this.#perMinute, this.#tokens + (passed / MINUTE_MS) * this.#perMinute);
    this.#at = now;
    return Math.floor(this.#tokens);
  }

  take(now: number): boolean {
    if (this.left(now) < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Until there will be one again; spread, so that those who wait do not all come at once. */
  waitMs(now: number): number {
    const one = MINUTE_MS / this.#perMinute;
    return Math.ceil(one + (now % MINUTE_MS));
  }
}
