/**
 * The buckets that an instance remembers, by owner, so that nobody's many push out another's: where there is
 * no room, one goes of whoever has more than an equal share, and first of who asks for one more.
 */
import { Bucket } from './bucket.ts';
import type { Limit } from './rate.ts';

/** Buckets, or owners, looked at to make room for a new one. */
const LOOKED_AT = 8;

type Owned = Map<string, Bucket>;

export class Remembered {
  readonly #most: number;
  /** Of each owner, those that were used go to the end of the line when room is made. */
  readonly #owners = new Map<string, Owned>();
  #size = 0;
  /** The owner that was seen to have the most. */
  #largest = '';

  constructor(most: number) {
    this.#most = most;
  }

  get size(): number {
    return this.#size;
  }

  get(limit: Pick<Limit, 'owner' | 'bucket'>): Bucket | undefined {
    return this.#owners.get(limit.owner)?.get(limit.bucket);
  }

  /** Whether one has to go before another comes. */
  get isFull(): boolean {
    return this.#size >= this.#most;
  }

  add(limit: Limit, now: number): Bucket {
    const bucket = new Bucket(limit, now);
    const owned = this.#owners.get(limit.owner) ?? new Map<string, Bucket>();
    owned.set(limit.bucket, bucket);
    this.#owners.set(limit.owner, owned);
    this.#size += 1;
    if (owned.size > this.#countOf(this.#largest)) this.#largest = limit.owner;
    return bucket;
  }

  /** Whose buckets make room for one of `owner`. */
  whoYields(owner: string): string {
    const share = this.#most / Math.max(1, this.#owners.size);
    if (this.#countOf(owner) > share) return owner;
    if (this.#countOf(this.#largest) >= share) return this.#largest;
    this.#largest = this.#largerOfSome();
    return this.#largest;
  }

  /** Takes one of an owner away; undefined where all that were looked at are being asked about. */
  takeOne(owner: string): Bucket | undefined {
    const owned = this.#owners.get(owner) ?? new Map<string, Bucket>();
    let looked = 0;
    for (const [text, bucket] of owned) {
      looked += 1;
      owned.delete(text);
      // Used meanwhile, or its answer is under way: to the end of the line.
      const stays = bucket.asking || (bucket.rest() && looked < LOOKED_AT);
      if (!stays) {
        this.#size -= 1;
        if (owned.size === 0) this.#owners.delete(owner);
        return bucket;
      }
      owned.set(text, bucket);
      if (looked >= LOOKED_AT) break;
    }
    return undefined;
  }

  /** All of them; none stays. */
  takeAll(): readonly Bucket[] {
    const all = [...this.#owners.values()].flatMap((owned) => [...owned.values()]);
    this.#owners.clear();
    this.#size = 0;
    return all;
  }

  #countOf(owner: string): number {
    return this.#owners.get(owner)?.size ?? 0;
  }

  /** Of a few owners, others each time, who has the most. */
  #largerOfSome(): string {
    let [found, most, looked] = ['', -1, 0];
    for (const [owner, owned] of this.#owners) {
      if (looked >= LOOKED_AT) break;
      looked += 1;
      this.#owners.delete(owner);
      this.#owners.set(owner, owned);
      if (owned.size > most) [found, most] = [owner, owned.size];
    }
    return found;
  }
}
