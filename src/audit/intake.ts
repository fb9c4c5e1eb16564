/**
 * What the sequencer checks of a lane before its entries get an index: that none is missing, that each
 * leaf is the hash of its body, that the body says its own place and the leaf before it, and that each
 * batch has the HMAC of its writer. So whoever writes to the database alone adds nothing to the log.
 */
import { equalBytes } from '../crypto/bytes.ts';
import type { MacFunction } from './batch.ts';
import { NO_PREVIOUS, batchMacInput } from './entry.ts';
import { placeOf } from './entry-place.ts';
import type { LaneEntry, LaneView } from './sequencer-ports.ts';
import { leafHash } from './tree/hashes.ts';

export type FaultReason =
  /** An entry is not there, although a later one is, or its instance was told that it is durable. */
  | 'missing'
  /** Entries that have an index are not there any more. */
  | 'vanished'
  /** The cursor is another than the runs of the log say. */
  | 'cursor'
  /** It is marked as having nothing more for the log, and is not closed or has. */
  | 'drained'
  /** The leaf is not the hash of the body. */
  | 'leaf'
  /** The body is not that of an entry of this place. */
  | 'place'
  /** The entry does not hold the leaf of the one before it. */
  | 'chain'
  /** The batch has no HMAC, or a wrong one. */
  | 'batch-hmac'
  /** What the instance announces of the lane is no count. */
  | 'announcement'
  /** The lane is closed, and its last entry does not say that it is the last. */
  | 'unfinished';

/** What is wrong with a lane, and at which entry. */
export interface LaneFault {
  readonly lane: number;
  readonly n: number;
  readonly reason: FaultReason;
}

/** What the row of a lane says by itself; null when nothing is wrong. */
export function viewFault(view: LaneView): LaneFault | null {
  const { lane, next, sequenced, last, drained, announced } = view;
  if (drained) return { lane, n: next, reason: 'drained' };
  if (next !== sequenced) return { lane, n: sequenced, reason: 'cursor' };
  if (next - 1 > last) return { lane, n: last + 1, reason: 'vanished' };
  if (announced === null) return null;
  if (!Number.isSafeInteger(announced) || announced < 0) {
    return { lane, n: next, reason: 'announcement' };
  }
  return announced > last ? { lane, n: last + 1, reason: 'missing' } : null;
}

/** A writer sends 256 entries at most at a time. */
const LONGEST_BATCH = 4_096;

interface Batch {
  readonly first: number;
  readonly hmac: Uint8Array;
  readonly leaves: Uint8Array[];
}

/** Entries of one lane, in order, as whole batches. */
export class LaneIntake {
  readonly lane: number;
  readonly from: number;
  readonly #batches: Batch[] = [];
  /** Null until the entry before the first, if there is one, has been seen. */
  #previous: Uint8Array | null;
  #next: number;
  #fault: LaneFault | null = null;

  constructor({ lane, next }: Pick<LaneView, 'lane' | 'next'>) {
    this.lane = lane;
    this.from = next;
    this.#previous = next === 1 ? NO_PREVIOUS : null;
    this.#next = next === 1 ? 1 : next - 1;
  }

  /** Takes the next entry; after a fault none is taken any more. The first is the one before `from`. */
  take(entry: LaneEntry): void {
    if (this.#fault !== null) return;
    const reason = this.#wrong(entry);
    if (reason !== null) {
      this.#fault = { lane: this.lane, n: this.#next, reason };
      return;
    }
    if (this.#previous !== null) this.#add(entry);
    this.#previous = entry.leaf;
    this.#next += 1;
  }

  /** Says that entries up to `until` (exclusive) have been given. `whole`: a batch ends there. */
  end(until: number, whole: boolean): void {
    if (this.#fault === null && this.#next < until) {
      this.#fault = { lane: this.lane, n: this.#next, reason: this.#absence };
    }
    if (this.#fault !== null || !whole) this.#batches.pop();
  }

  /**
   * The leaves of the batches whose HMACs are right, up to the first fault.
   * @throws whatever the HSM throws: then nothing is known
   */
  async verified(
    mac: MacFunction,
  ): Promise<{ readonly leaves: readonly Uint8Array[]; readonly fault: LaneFault | null }> {
    const leaves: Uint8Array[] = [];
    for (let at = 0; at < this.#batches.length; at += AT_ONCE) {
      const batches = this.#batches.slice(at, at + AT_ONCE);
      const right = await Promise.all(batches.map((batch) => this.#isRight(mac, batch)));
      for (const [position, batch] of batches.entries()) {
        if (right[position] !== true) {
          return { leaves, fault: { lane: this.lane, n: batch.first, reason: 'batch-hmac' } };
        }
        leaves.push(...batch.leaves);
      }
    }
    return { leaves, fault: this.#fault };
  }

  #wrong({ n, leaf, body, batchHmac }: LaneEntry): FaultReason | null {
    if (n !== this.#next) return this.#absence;
    if (!equalBytes(leafHash(body), leaf)) return 'leaf';
    const place = placeOf(body);
    if (place?.lane !== this.lane || place.n !== n) return 'place';
    if (this.#previous === null) return null;
    if (!equalBytes(place.previous, this.#previous)) return 'chain';
    const begun = this.#batches.at(-1);
    const tooLong = (begun?.leaves.length ?? LONGEST_BATCH) >= LONGEST_BATCH;
    return batchHmac === null && tooLong ? 'batch-hmac' : null;
  }

  get #absence(): FaultReason {
    return this.#previous === null ? 'vanished' : 'missing';
  }

  #add({ n, leaf, batchHmac }: LaneEntry): void {
    if (batchHmac === null) this.#batches.at(-1)?.leaves.push(leaf);
    else this.#batches.push({ first: n, hmac: batchHmac, leaves: [leaf] });
  }

  async #isRight(mac: MacFunction, { first, hmac, leaves }: Batch): Promise<boolean> {
    const last = leaves.at(-1) ?? NO_PREVIOUS;
    const input = batchMacInput({ lane: this.lane, first, count: leaves.length, last });
    return equalBytes(await mac(input, hmac), hmac);
  }
}

/** HMACs asked of the HSM at once, so that requests find room between them. */
const AT_ONCE = 16;
