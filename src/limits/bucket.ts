/** What one instance holds of one bucket. */
import { hash } from 'node:crypto';

import type { Lease, LeaseRequest } from './ports.ts';
import { creditOf, firstLeaseOf, leaseOf, perSecond } from './rate.ts';
import type { Limit, Rate } from './rate.ts';

/** Between two requests for allowance of an empty bucket at least, ms. */
const SHORTEST_WAIT_MS = 20;
/** Where nothing comes back but what other instances give back, ms. */
const QUOTA_WAIT_MS = 1_000;
/** A lease of a quota that was used up again so soon was too small, ms. */
const SOON_MS = 2_000;
/** After the database failed, ms. */
const AFTER_FAILURE_MS = 1_000;

export class Bucket {
  readonly id: Uint8Array;
  readonly owner: string;
  #rate: Rate;
  /** Allowance here; negative: let through before it was leased, and to be charged. */
  #held = 0;
  /** While it was known to be empty when last heard of, until then (ms of the limiter's clock). */
  #emptyUntil = 0;
  #notBefore = 0;
  /** A quota that was used up when last heard of: nothing is let through on credit, however long ago. */
  #isUsedUp = false;
  /** Whether what is known to be left refused something: others may have given back. */
  #isDoubted = false;
  #used = false;
  /** Of a quota, of which nobody may keep what others could use: as much as it uses in some seconds. */
  #lease: number;
  /** When it last had some of what it asked for. */
  #suppliedAt = -Infinity;
  /** Since `spare`. */
  #spent = 0;
  /** Whether what it holds beyond its lease is to go back. */
  #isSpare = false;
  #available: number;
  #heardAt: number;
  /** Of the request under way. */
  #asked: LeaseRequest | null = null;

  constructor({ bucket, owner, rate }: Limit, now: number) {
    this.id = hash('sha256', bucket, 'buffer');
    this.owner = owner;
    this.#rate = rate;
    this.#lease = firstLeaseOf(rate);
    this.#available = rate.burst;
    this.#heardAt = now;
  }

  get rate(): Rate {
    return this.#rate;
  }

  get held(): number {
    return this.#held;
  }

  get isQuota(): boolean {
    return this.#rate.perMinute === 0;
  }

  get asking(): boolean {
    return this.#asked !== null;
  }

  /** The rate in force: what was spent stays spent, and what is held beyond a lease goes back. */
  follow(rate: Rate): void {
    if (rate.perMinute === this.#rate.perMinute && rate.burst === this.#rate.burst) return;
    this.#available += rate.burst - this.#rate.burst;
    this.#rate = rate;
    this.#emptyUntil = 0;
    this.#isUsedUp = false;
  }

  /**
   * Until it is heard of, so much is let through on credit. Items together pass where one would, but for
   * a quota, of which no more is taken than is known to be left.
   */
  admits(now: number, cost: number): boolean {
    if (this.isQuota && cost > this.left(now)) {
      this.#isDoubted = true;
      return false;
    }
    return this.#isOpen(now);
  }

  /** Whether one item would pass, but for what is left. */
  #isOpen(now: number): boolean {
    return this.#isUsedUp || now < this.#emptyUntil
      ? this.#held >= 1
      : this.#held > -creditOf(this.#rate);
  }

  /** Whether it was heard of as used up, no longer ago than something may have come back. */
  isKnownEmpty(now: number): boolean {
    return (this.#isUsedUp || now < this.#emptyUntil) && this.#held < 1;
  }

  /** Whether it is a rate that owes a burst already. */
  get owesMost(): boolean {
    return this.#rate.perMinute > 0 && this.#held <= -this.#rate.burst;
  }

  /** Negative: what was taken comes back. */
  take(cost: number): void {
    this.#held -= cost;
    this.#spent += cost;
    this.#used = true;
  }

  /** Whether it was used since the last time that this was asked. */
  rest(): boolean {
    const used = this.#used;
    this.#used = false;
    return used;
  }

  /** Of a quota: what was not used since the last time that this was asked is to go back, for others. */
  spare(): void {
    this.#lease = Math.min(this.#lease, Math.max(0, this.#spent));
    this.#spent = 0;
    this.#isSpare = this.#held > this.#lease;
  }

  needs(now: number): boolean {
    if (this.#asked !== null || now < this.#notBefore || now < this.#emptyUntil) return false;
    if (this.#isDoubted || this.#isSpare) return true;
    return this.#isLow || this.#held > leaseOf(this.#rate);
  }

  get #size(): number {
    const most = leaseOf(this.#rate);
    return this.isQuota ? Math.min(this.#lease, most) : most;
  }

  get #isLow(): boolean {
    return this.#held < this.#size / 2;
  }

  /** @param leaving nothing is wanted, what is held goes back */
  ask(now: number, leaving = false): LeaseRequest {
    if (this.isQuota && this.#isLow) this.#enlarge(now);
    const lease = leaving ? 0 : this.#size;
    // What a refund gave stays for what comes next, unless it is seen to be unused.
    const kept = leaving || this.#isSpare ? lease : leaseOf(this.#rate);
    const beyond = Math.max(0, this.#held - kept);
    const owed = this.#held < 0 ? -this.#held : -beyond;
    const wanted = Math.max(0, lease - Math.max(0, this.#held));
    const { burst } = this.#rate;
    this.#held -= beyond;
    this.#isDoubted = false;
    this.#isSpare = false;
    this.#asked = { id: this.id, owed, wanted, perSecond: perSecond(this.#rate), burst };
    return this.#asked;
  }

  #enlarge(now: number): void {
    const wasSoon = now - this.#suppliedAt < SOON_MS;
    const enough = wasSoon ? Math.max(1, this.#lease * 2) : this.#lease;
    this.#lease = Math.min(leaseOf(this.#rate), Math.max(firstLeaseOf(this.#rate), enough));
  }

  heard({ granted, available }: Lease, now: number): void {
    const { owed, wanted } = this.#asked ?? { owed: 0, wanted: 0 };
    this.#held += granted + Math.max(0, owed);
    if (owed > 0 || wanted > 0) this.#suppliedAt = now;
    this.#asked = null;
    this.#available = available;
    this.#heardAt = now;
    this.#isUsedUp = available < 1 && this.isQuota;
    if (available >= 1) return;
    if (this.#isUsedUp) {
      this.#emptyUntil = now + QUOTA_WAIT_MS;
      return;
    }
    const enough = Math.max(1, leaseOf(this.#rate) / 4);
    const wait = ((enough - available) / perSecond(this.#rate)) * 1_000;
    this.#emptyUntil = now + Math.max(SHORTEST_WAIT_MS, wait);
  }

  /**
   * What was to be given back is held still where it is certain that nothing was done; else it is lost, which errs
   * on the side of the limit.
   */
  failed(now: number, isCertain: boolean): void {
    if (isCertain) this.#held += Math.max(0, -(this.#asked?.owed ?? 0));
    this.#asked = null;
    this.#notBefore = now + AFTER_FAILURE_MS;
  }

  /** Until it is worth asking again, ms. */
  wait(now: number): number {
    return Math.max(0, this.#emptyUntil - now, this.#notBefore - now);
  }

  /** As `left`; 0 while nothing passes here, though there may be more where others have not used it. */
  remaining(now: number): number {
    return this.#isOpen(now) ? this.left(now) : 0;
  }

  /** About what is left over all instances, as far as this one knows. */
  left(now: number): number {
    const grown = this.#available + (perSecond(this.#rate) * (now - this.#heardAt)) / 1_000;
    const known = Math.min(this.#rate.burst, grown) + this.#held;
    return Math.max(0, Math.min(this.#rate.burst, Math.floor(known)));
  }
}
