/**
 * What this process wrote last and was told to be durable: leaves and HMACs of its batches. A sequencer in
 * the same process need not read them back: it asks the database for a digest of what stands there
 * instead (`staged-intake.ts`), at a fifth of the cost. Whatever is not here it reads, as it reads what
 * others wrote.
 */
import { hash } from 'node:crypto';
import type { AppendBatch } from './ports.ts';
import type { LaneRange } from './sequencer-ports.ts';
import { HASH_BYTES } from './tree/hashes.ts';

/** Entries that are kept, of 32 bytes each; without a sequencer here nobody takes them. */
const KEPT = 65_536;

/** Entries of a lane as whole batches. */
export interface OwnLeaves {
  readonly range: LaneRange;
  readonly leaves: readonly Uint8Array[];
  /** SHA-256 over all batches of HMAC ‖ leaves. */
  readonly digest: Uint8Array;
}

interface Kept {
  readonly first: number;
  readonly count: number;
  /** HMAC ‖ leaves. */
  readonly bytes: Uint8Array;
}

export class OwnBatches {
  #lane: number | null = null;
  #kept: Kept[] = [];
  #entries = 0;

  /** The batch is durable. */
  written({ lane, first, hmac, entries }: AppendBatch): void {
    const before = this.#kept.at(-1);
    if (lane !== this.#lane || (before !== undefined && before.first + before.count !== first)) {
      this.#lane = lane;
      this.#kept = [];
      this.#entries = 0;
    }
    const count = entries.length;
    this.#kept.push({ first, count, bytes: joined(hmac, entries) });
    this.#entries += count;
    if (this.#entries > KEPT) this.#drop(first + count - KEPT / 2);
  }

  /** Batches from `from` on that end before `until`; null when `from` begins none that is known. */
  take({ lane, from, until }: LaneRange): OwnLeaves | null {
    if (lane !== this.#lane) return null;
    this.#drop(from);
    const last = this.#kept.findLastIndex(({ first, count }) => first + count <= until);
    const batches = this.#kept.slice(0, last + 1);
    if (batches[0]?.first !== from) return null;
    const bytes = Buffer.concat(batches.map((batch) => batch.bytes));
    return {
      range: { lane, from, until: batches.reduce((next, { count }) => next + count, from) },
      leaves: batches.flatMap(leavesOf),
      digest: hash('sha256', bytes, 'buffer'),
    };
  }

  /** Forgets batches that begin before `n`. */
  #drop(n: number): void {
    const at = this.#kept.findIndex(({ first }) => first >= n);
    const gone = this.#kept.splice(0, at < 0 ? this.#kept.length : at);
    for (const { count } of gone) this.#entries -= count;
  }
}

function joined(hmac: Uint8Array, entries: AppendBatch['entries']): Uint8Array {
  const bytes = new Uint8Array(hmac.length + entries.length * HASH_BYTES);
  bytes.set(hmac);
  entries.forEach(({ leaf }, at) => bytes.set(leaf, hmac.length + at * HASH_BYTES));
  return bytes;
}

function leavesOf({ count, bytes }: Kept): Uint8Array[] {
  const start = bytes.length - count * HASH_BYTES;
  return Array.from({ length: count }, (_, at) =>
    bytes.subarray(start + at * HASH_BYTES, start + (at + 1) * HASH_BYTES),
  );
}
