/**
 * Rate limits that hold over all instances.
 *
 * Each limit is a token bucket that stands in the database; an instance spends allowance that it leased
 * from it, and asks for more in the background before that is used up. So a request costs an addition
 * and waits for nothing, and in any span of `t` seconds all instances together let through at most
 * `burst + perMinute/60 × t`, and each of them beyond that two leases (one that it held before, one on
 * credit before it heard of the bucket) and one request (a batch passes where one item would). What was
 * let through on credit is charged: over time the rate is exact.
 */
import { Bucket } from './bucket.ts';
import type { LeaseStore } from './ports.ts';
import type { Limit } from './rate.ts';

/** Buckets that an instance remembers. */
const MAX_BUCKETS = 20_000;
/** Forgotten ones whose allowance has not been given back yet. */
const MAX_LEAVING = 2_000;
/** Buckets looked at to make room for a new one. */
const LOOKED_AT = 8;
/** Buckets of one statement. */
const TOGETHER = 500;

export interface LimiterParts {
  readonly store: LeaseStore;
  /** Monotonic, ms. */
  readonly now?: (() => number) | undefined;
  readonly onTrouble?: (error: unknown) => void;
  /** `MAX_BUCKETS` unless told. */
  readonly most?: number;
}

/** What a request was counted against. */
export interface Charge {
  readonly limits: readonly Limit[];
  readonly cost: number;
  /** The limit that refused it; then it was counted against none. */
  readonly refused: Limit | null;
  /** ms. */
  readonly retryAfter: number;
}

/** Since the start, of this process. */
export interface LimiterFigures {
  readonly allowed: number;
  readonly refused: number;
  /** Let through before any allowance was there. */
  readonly credited: number;
  readonly leases: number;
  readonly failures: number;
}

export class Limiter {
  readonly #store: LeaseStore;
  readonly #now: () => number;
  readonly #onTrouble: (error: unknown) => void;
  readonly #most: number;
  /** Those that were used go to the end of the line when room is made. */
  readonly #buckets = new Map<string, Bucket>();
  readonly #asking = new Set<Bucket>();
  readonly #leaving = new Set<Bucket>();
  #pumping: Promise<void> | null = null;
  readonly #figures = { allowed: 0, refused: 0, credited: 0, leases: 0, failures: 0 };

  constructor({ store, now, onTrouble, most }: LimiterParts) {
    this.#store = store;
    this.#now = now ?? (() => performance.now());
    this.#onTrouble = onTrouble ?? (() => undefined);
    this.#most = most ?? MAX_BUCKETS;
  }

  get figures(): LimiterFigures {
    return this.#figures;
  }

  get size(): number {
    return this.#buckets.size + this.#leaving.size;
  }

  /** Counts a request of `cost` items against all the limits, or against none where one refuses it. */
  charge(limits: readonly Limit[], cost: number): Charge {
    const now = this.#now();
    const buckets: Bucket[] = [];
    for (const limit of limits) {
      const bucket = this.#bucket(limit, now);
      if (bucket?.admits(now) !== true) return this.#refuse(limits, limit, bucket, now);
      buckets.push(bucket);
    }
    this.#figures.allowed += 1;
    for (const bucket of buckets) {
      if (bucket.held < 1) this.#figures.credited += 1;
      bucket.take(cost);
      this.#fill(bucket, now);
    }
    return { limits, cost, refused: null, retryAfter: 0 };
  }

  /** Undoes a charge: the request did nothing. */
  refund({ limits, cost, refused }: Charge): void {
    if (refused !== null) return;
    for (const { bucket } of limits) this.#buckets.get(bucket)?.take(-cost);
  }

  /** About what is left of a limit, for headers. */
  remaining({ bucket, rate }: Limit): number {
    return this.#buckets.get(bucket)?.remaining(this.#now()) ?? rate.burst;
  }

  /** Resolves when nothing is being asked of the database. */
  async settled(): Promise<void> {
    while (this.#pumping !== null) await this.#pumping;
  }

  /** Gives back what is held. Never rejects. */
  async close(): Promise<void> {
    await this.settled();
    for (const bucket of this.#buckets.values()) this.#leave(bucket);
    this.#buckets.clear();
    await this.settled();
  }

  #refuse(limits: readonly Limit[], limit: Limit, bucket: Bucket | null, now: number): Charge {
    this.#figures.refused += 1;
    if (bucket !== null) this.#fill(bucket, now);
    return { limits, cost: 0, refused: limit, retryAfter: bucket?.wait(now) ?? 1_000 };
  }

  /** Null where there is no room for one more. */
  #bucket({ bucket: text, rate }: Limit, now: number): Bucket | null {
    const known = this.#buckets.get(text);
    if (known !== undefined) {
      known.follow(rate);
      return known;
    }
    if (this.#buckets.size >= this.#most && !this.#makeRoom()) return null;
    const made = new Bucket(text, rate, now);
    this.#buckets.set(text, made);
    return made;
  }

  /** Forgets one; what was spent of it stands in the database, and what it owes is charged first. */
  #makeRoom(): boolean {
    if (this.#leaving.size >= MAX_LEAVING) return false;
    let looked = 0;
    for (const [text, bucket] of this.#buckets) {
      looked += 1;
      this.#buckets.delete(text);
      // Used meanwhile, or its answer is under way: to the end of the line.
      const stays = bucket.asking || (bucket.rest() && looked < LOOKED_AT);
      if (stays) this.#buckets.set(text, bucket);
      else this.#leave(bucket);
      if (!stays || looked >= LOOKED_AT) return !stays;
    }
    return false;
  }

  #leave(bucket: Bucket): void {
    this.#asking.delete(bucket);
    if (bucket.held === 0) return;
    this.#leaving.add(bucket);
    this.#pump();
  }

  #fill(bucket: Bucket, now: number): void {
    if (!bucket.needs(now)) return;
    this.#asking.add(bucket);
    this.#pump();
  }

  #pump(): void {
    this.#pumping ??= this.#work();
  }

  /** One statement at a time, which all that came meanwhile shares. */
  async #work(): Promise<void> {
    // What the same turn of the loop asks for goes together.
    await Promise.resolve();
    while (this.#asking.size + this.#leaving.size > 0) await this.#round();
    this.#pumping = null;
  }

  async #round(): Promise<void> {
    const leaving = [...this.#leaving].slice(0, TOGETHER);
    const asking = [...this.#asking].slice(0, TOGETHER - leaving.length);
    for (const bucket of leaving) this.#leaving.delete(bucket);
    for (const bucket of asking) this.#asking.delete(bucket);
    const requests = [
      ...leaving.map((bucket) => bucket.ask(true)),
      ...asking.map((bucket) => bucket.ask()),
    ];
    const buckets = [...leaving, ...asking];
    try {
      const leases = await this.#store.lease(requests);
      this.#figures.leases += leases.length;
      const now = this.#now();
      for (const [index, bucket] of buckets.entries()) {
        const lease = leases[index];
        if (lease === undefined) bucket.failed(now);
        else bucket.heard(lease, now);
      }
    } catch (error) {
      this.#figures.failures += 1;
      const now = this.#now();
      for (const bucket of buckets) bucket.failed(now);
      this.#onTrouble(error);
    }
  }
}
