/**
 * Use counts per key version, reserved in blocks so that a use costs no round trip.
 *
 * A block is durable before its first use, so a crash can only count uses that never happened.
 * AES-GCM with random 96-bit IVs ends at 2^32 invocations of one key (SP 800-38D section 8.3).
 */
import { TwofoldError } from '../errors.ts';
import type { KeyStore } from './ports.ts';

/** SP 800-38D section 8.3. */
export const GCM_LIMIT = 2 ** 32;
/** Uses at which a key should get a new version, long before the limit. */
export const GCM_ROTATION = 2 ** 31;
/** A block has at most this share of what its counter counted, so that rotation by use is not far from the uses. */
const BLOCK_SHARE = 1 / 8;
const SMALLEST_BLOCK = 8;
const LARGEST_BLOCK = 16_384;
/** Counters held at a time. What is left of a block that is given up counts as used. */
const MAX_COUNTERS = 16_384;

interface Block {
  next: number;
  end: number;
  /** The reservation under way, shared by everyone who waits for it. */
  refill: Promise<void> | null;
}

export const gcmExhausted = (): TwofoldError =>
  new TwofoldError(
    'version_not_usable',
    'The version has reached 2^32 AES-GCM uses; rotate the key.',
  );

export class UsageCounters {
  readonly #store: Pick<KeyStore, 'reserveUses'>;
  readonly #maxCounters: number;
  /** Least recently used first. */
  readonly #blocks = new Map<string, Block>();

  constructor(store: Pick<KeyStore, 'reserveUses'>, maxCounters = MAX_COUNTERS) {
    this.#store = store;
    this.#maxCounters = maxCounters;
  }

  get size(): number {
    return this.#blocks.size;
  }

  /** Counts one AES-GCM encryption. @throws TwofoldError version_not_usable at 2^32 */
  async countGcm(counter: string): Promise<void> {
    if ((await this.permitGcm(counter, 1)) < 1) throw gcmExhausted();
  }

  /** Counts `uses` AES-GCM encryptions and returns how many of them there may be. */
  async permitGcm(counter: string, uses: number): Promise<number> {
    let permitted = 0;
    for (let counted = 0; counted < uses;) {
      const { first, count } = await this.#take(counter, uses - counted);
      permitted += Math.max(0, Math.min(count, GCM_LIMIT - first));
      counted += count;
    }
    return permitted;
  }

  /** Counts one use and returns its 0-based index. */
  async count(counter: string): Promise<number> {
    return (await this.#take(counter, 1)).first;
  }

  /** Counts as many uses as one block has, `most` at most. */
  async #take(counter: string, most: number): Promise<{ first: number; count: number }> {
    const block = this.#block(counter);
    while (block.next >= block.end) await this.#refill(counter, block, most);
    const first = block.next;
    const count = Math.min(most, block.end - first);
    block.next += count;
    return { first, count };
  }

  #block(counter: string): Block {
    const known = this.#blocks.get(counter);
    this.#blocks.delete(counter);
    const block = known ?? { next: 0, end: 0, refill: null };
    this.#blocks.set(counter, block);
    const [oldest] = this.#blocks.keys();
    if (this.#blocks.size > this.#maxCounters && oldest !== undefined) this.#blocks.delete(oldest);
    return block;
  }

  async #refill(counter: string, block: Block, most: number): Promise<void> {
    block.refill ??= this.#reserve(counter, block, most).finally(() => {
      block.refill = null;
    });
    await block.refill;
  }

  /** @param most uses that are wanted now */
  async #reserve(counter: string, block: Block, most: number): Promise<void> {
    const share = Math.max(Math.floor(block.end * BLOCK_SHARE), SMALLEST_BLOCK, most);
    const size = Math.min(share, LARGEST_BLOCK);
    const [first, count] = await this.#store.reserveUses(counter, size, Math.min(most, size));
    block.next = first;
    block.end = first + count;
  }
}
