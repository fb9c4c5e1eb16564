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
import { TwofoldError } from '../errors.ts';
import { OutcomeUnknown } from '../outcome.ts';
import type { Bucket } from './bucket.ts';
import type { LeaseStore } from './ports.ts';
import type { Limit } from './rate.ts';
import { Remembered } from './remembered.ts';

/** Buckets that an instance remembers. */
const MAX_BUCKETS = 20_000;
/** Forgotten ones whose allowance has not been given back yet. */
const MAX_LEAVING = 2_000;
/** How many of those one owner may have for buckets of its own; the rest is room for others. */
const MAX_LEAVING_OF_OWNER = MAX_LEAVING / 2;
/** Buckets of one statement. */
const TOGETHER = 500;
/** What is held of a quota is looked at again after, ms: what was not used meanwhile goes back. */
const UNUSED_MS = 10_000;
/** Buckets looked at for that at a time: what goes back has half of a statement. */
const LOOKED_AT = TOGETHER / 2;

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
  /** About what is left of the limit that refused it. */
  readonly left: number;
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
  readonly #buckets: Remembered;
  readonly #asking = new Set<Bucket>();
  readonly #leaving = new Set<Bucket>();
  /** How many of them, by owner. */
  readonly #leavingOf = new Map<string, number>();
  /** Of quotas, what holds some or did when last looked at, longest ago first: when that was. */
  readonly #holding = new Map<Bucket, number>();
  /** Nothing is given back for want of use until then: in an outage it might be lost. */
  #troubledUntil = -Infinity;
  #pumping: Promise<void> | null = null;
  readonly #figures = { allowed: 0, refused: 0, credited: 0, leases: 0, failures: 0 };

  constructor({ store, now, onTrouble, most }: LimiterParts) {
    this.#store = store;
    this.#now = now ?? (() => performance.now());
    this.#onTrouble = onTrouble ?? (() => undefined);
    this.#buckets = new Remembered(most ?? MAX_BUCKETS);
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
      if (bucket?.admits(now, cost) !== true) return this.#refuse(limits, limit, bucket, now);
      buckets.push(bucket);
    }
    return this.#take(limits, buckets, cost, now);
  }

  /**
   * Counts one item of who must not be kept out by what others use, or by a database that does not answer:
   * it is refused by those limits alone that may, and where they are known to be used up. A rate owes a burst at
   * most, however much came while the database was away: it is paid soon. Quotas count everything.
   */
  chargeKnown(limits: readonly Limit[], mayRefuse: (limit: Limit) => boolean): Charge {
    const now = this.#now();
    const buckets = limits.map((limit) => this.#bucket(limit, now));
    for (const [index, limit] of limits.entries()) {
      const bucket = buckets[index];
      if (mayRefuse(limit) && bucket?.isKnownEmpty(now) === true) {
        return this.#refuse(limits, limit, bucket, now);
      }
    }
    const counted: Limit[] = [];
    const counting: Bucket[] = [];
    for (const [index, limit] of limits.entries()) {
      const bucket = buckets[index] ?? null;
      if (bucket === null) continue;
      if (bucket.owesMost) {
        this.#fill(bucket, now);
        continue;
      }
      counted.push(limit);
      counting.push(bucket);
    }
    return this.#take(counted, counting, 1, now);
  }

  /** Undoes a charge: the request did nothing. */
  refund({ limits, cost, refused }: Charge): void {
    if (refused !== null) return;
    for (const limit of limits) {
      const bucket = this.#buckets.get(limit);
      bucket?.take(-cost);
      if (bucket !== undefined) this.#watch(bucket);
    }
  }

  /**
   * Gives back what was not used for some seconds of quotas, which are not filled again: others may want it.
   * To be called about once a second; looks at a bounded number of buckets.
   */
  giveBack(): void {
    const now = this.#now();
    if (now < this.#troubledUntil) return;
    let looked = 0;
    for (const [bucket, at] of this.#holding) {
      if (looked >= LOOKED_AT || now - at < UNUSED_MS) break;
      looked += 1;
      this.#holding.delete(bucket);
      bucket.spare();
      this.#fill(bucket, now);
      this.#watch(bucket);
    }
  }

  /** About what is left of a limit, for headers; 0 while it lets nothing through. */
  remaining(limit: Limit): number {
    return this.#buckets.get(limit)?.remaining(this.#now()) ?? limit.rate.burst;
  }

  /** Resolves when nothing is being asked of the database. */
  async settled(): Promise<void> {
    while (this.#pumping !== null) await this.#pumping;
  }

  /** Gives back what is held. Never rejects. */
  async close(): Promise<void> {
    await this.settled();
    for (const bucket of this.#buckets.takeAll()) this.#leave(bucket);
    await this.settled();
  }

  #take(limits: readonly Limit[], buckets: readonly Bucket[], cost: number, now: number): Charge {
    this.#figures.allowed += 1;
    for (const bucket of buckets) {
      if (bucket.held < 1) this.#figures.credited += 1;
      bucket.take(cost);
      this.#fill(bucket, now);
    }
    return { limits, cost, refused: null, retryAfter: 0, left: 0 };
  }

  #refuse(limits: readonly Limit[], limit: Limit, bucket: Bucket | null, now: number): Charge {
    this.#figures.refused += 1;
    if (bucket !== null) this.#fill(bucket, now);
    const retryAfter = bucket?.wait(now) ?? 1_000;
    // Of what there is no room for nothing is known to be used.
    const left = bucket === null ? limit.rate.burst : bucket.left(now);
    return { limits, cost: 0, refused: limit, retryAfter, left };
  }

  /** Null where there is no room for one more. */
  #bucket(limit: Limit, now: number): Bucket | null {
    const known = this.#buckets.get(limit);
    if (known !== undefined) {
      known.follow(limit.rate);
      return known;
    }
    if (this.#buckets.isFull && !this.#makeRoom(limit.owner)) return null;
    return this.#buckets.add(limit, now);
  }

  /** Forgets one; what was spent of it stands in the database, and what it owes is charged first. */
  #makeRoom(owner: string): boolean {
    if (this.#leaving.size >= MAX_LEAVING) return false;
    const yielding = this.#buckets.whoYields(owner);
    if (yielding === owner && (this.#leavingOf.get(owner) ?? 0) >= MAX_LEAVING_OF_OWNER)
      return false;
    const bucket = this.#buckets.takeOne(yielding);
    if (bucket === undefined) return false;
    this.#leave(bucket);
    return true;
  }

  #watch(bucket: Bucket): void {
    if (!bucket.isQuota || bucket.held <= 0 || this.#holding.has(bucket)) return;
    this.#holding.set(bucket, this.#now());
  }

  #leave(bucket: Bucket): void {
    this.#asking.delete(bucket);
    this.#holding.delete(bucket);
    if (bucket.held === 0) return;
    this.#leaving.add(bucket);
    this.#leavingOf.set(bucket.owner, (this.#leavingOf.get(bucket.owner) ?? 0) + 1);
    this.#pump();
  }

  #left(bucket: Bucket): void {
    this.#leaving.delete(bucket);
    const others = (this.#leavingOf.get(bucket.owner) ?? 1) - 1;
    if (others === 0) this.#leavingOf.delete(bucket.owner);
    else this.#leavingOf.set(bucket.owner, others);
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
    // However many leave, those that ask have half of each statement.
    const forAsking = Math.min(this.#asking.size, TOGETHER / 2);
    const leaving = [...this.#leaving].slice(0, TOGETHER - forAsking);
    const asking = [...this.#asking].slice(0, TOGETHER - leaving.length);
    for (const bucket of leaving) this.#left(bucket);
    for (const bucket of asking) this.#asking.delete(bucket);
    const asked = this.#now();
    const requests = [
      ...leaving.map((bucket) => bucket.ask(asked, true)),
      ...asking.map((bucket) => bucket.ask(asked)),
    ];
    const buckets = [...leaving, ...asking];
    try {
      const leases = await this.#store.lease(requests);
      this.#figures.leases += leases.length;
      const now = this.#now();
      for (const [index, bucket] of buckets.entries()) {
        const lease = leases[index];
        if (lease === undefined) bucket.failed(now, false);
        else bucket.heard(lease, now);
      }
    } catch (error) {
      this.#figures.failures += 1;
      const now = this.#now();
      const isCertain = error instanceof TwofoldError && !(error instanceof OutcomeUnknown);
      for (const bucket of buckets) bucket.failed(now, isCertain);
      this.#troubledUntil = now + UNUSED_MS;
      this.#onTrouble(error);
    }
    for (const bucket of asking) this.#watch(bucket);
  }
}
