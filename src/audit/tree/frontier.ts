/**
 * A tree reduced to the roots of its perfect subtrees, from left to right: enough to append leaves and
 * to know the root, at most 53 hashes whatever the size.
 */
import { TwofoldError } from '../../errors.ts';
import { EMPTY_ROOT, HASH_BYTES, hashAt, nodeHash, requireSize } from './hashes.ts';

/** Root of the tree that consists of these subtrees, the largest and leftmost first. */
export function foldSubtrees(roots: readonly Uint8Array[]): Uint8Array {
  const last = roots.at(-1);
  if (last === undefined) return EMPTY_ROOT;
  return roots.slice(0, -1).reduceRight((right, left) => nodeHash(left, right), last);
}

/** How many perfect subtrees a tree of this size has: the ones in its binary form. */
export function subtreeCount(size: number): number {
  requireSize(size);
  let ones = 0;
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) ones += rest % 2;
  return ones;
}

const SIZE_BYTES = 8;

/** Mutable; `copy` first what must stay. */
export class Frontier {
  #size: number;
  readonly #subtrees: Uint8Array[];

  constructor(size = 0, subtrees: readonly Uint8Array[] = []) {
    if (subtrees.length !== subtreeCount(size) || subtrees.some((h) => h.length !== HASH_BYTES)) {
      throw new RangeError('the subtrees do not belong to a tree of this size');
    }
    this.#size = size;
    this.#subtrees = subtrees.map((hash) => Uint8Array.from(hash));
  }

  get size(): number {
    return this.#size;
  }

  /** @param leaf RFC 6962 leaf hash, 32 bytes */
  append(leaf: Uint8Array): void {
    requireSize(this.#size + 1);
    let hash = leaf;
    for (let rest = this.#size; rest % 2 === 1; rest = (rest - 1) / 2) {
      const left = this.#subtrees.pop();
      if (left === undefined) throw new RangeError('a subtree is missing');
      hash = nodeHash(left, hash);
    }
    this.#subtrees.push(Uint8Array.from(hash));
    this.#size += 1;
  }

  root(): Uint8Array {
    return foldSubtrees(this.#subtrees);
  }

  copy(): Frontier {
    return new Frontier(this.#size, this.#subtrees);
  }

  /** Size u64 big-endian ‖ roots of the subtrees, the largest first. */
  serialise(): Uint8Array {
    const bytes = new Uint8Array(SIZE_BYTES + this.#subtrees.length * HASH_BYTES);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(this.#size));
    this.#subtrees.forEach((hash, at) => {
      bytes.set(hash, SIZE_BYTES + at * HASH_BYTES);
    });
    return bytes;
  }

  /** @throws TwofoldError `integrity_failed` for anything that `serialise` does not write */
  static parse(bytes: Uint8Array): Frontier {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const size = bytes.length < SIZE_BYTES ? NaN : Number(view.getBigUint64(0));
    const hashes = bytes.subarray(SIZE_BYTES);
    if (!Number.isSafeInteger(size) || hashes.length !== subtreeCount(size) * HASH_BYTES) {
      throw new TwofoldError('integrity_failed', undefined, {
        cause: new TypeError('not a serialised frontier'),
      });
    }
    const subtrees = Array.from({ length: subtreeCount(size) }, (_, at) => hashAt(hashes, at));
    return new Frontier(size, subtrees);
  }
}
