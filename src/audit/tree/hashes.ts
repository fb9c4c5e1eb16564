/** Hashes of the tree: RFC 6962 section 2.1 (the same in RFC 9162). SHA-256, 32 bytes each. */
import { hash } from 'node:crypto';

export const HASH_BYTES = 32;

const sha256 = (bytes: Uint8Array): Uint8Array => hash('sha256', bytes, 'buffer');

/** Root of the tree without leaves: SHA-256 of nothing. */
export const EMPTY_ROOT: Uint8Array = sha256(new Uint8Array(0));

/** SHA-256(0x00 ‖ entry). */
export function leafHash(entry: Uint8Array): Uint8Array {
  const input = new Uint8Array(1 + entry.length);
  input.set(entry, 1);
  return sha256(input);
}

const NODE_PREFIX = 1;
const nodeInput = new Uint8Array(1 + 2 * HASH_BYTES);
nodeInput[0] = NODE_PREFIX;

/** SHA-256(0x01 ‖ left ‖ right). */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  if (left.length !== HASH_BYTES || right.length !== HASH_BYTES) {
    throw new RangeError('a hash of the tree has 32 bytes');
  }
  nodeInput.set(left, 1);
  nodeInput.set(right, 1 + HASH_BYTES);
  return sha256(nodeInput);
}

/**
 * Root of a perfect subtree from the hashes one below another in `hashes` (32 bytes each).
 * @param hashes a power of two of them, at least one
 */
export function perfectRoot(hashes: Uint8Array): Uint8Array {
  let count = hashes.length / HASH_BYTES;
  if (!Number.isInteger(Math.log2(count))) throw new RangeError('not a power of two of hashes');
  const row = Buffer.from(hashes);
  // Each row over the one below it, of which every pair is read before its place is written. By way of a string: each
  // hash as bytes would be a buffer of its own, of which the collector has thousands for a few proofs.
  for (; count > 1; count /= 2) {
    for (let pair = 0; pair < count / 2; pair++) {
      row.copy(nodeInput, 1, 2 * pair * HASH_BYTES, 2 * (pair + 1) * HASH_BYTES);
      row.write(hash('sha256', nodeInput, 'binary'), pair * HASH_BYTES, HASH_BYTES, 'binary');
    }
  }
  return new Uint8Array(row.subarray(0, HASH_BYTES));
}

/** The hash at a position of hashes that stand one behind another; a view, not a copy. */
export function hashAt(hashes: Uint8Array, position: number): Uint8Array {
  const end = (position + 1) * HASH_BYTES;
  if (position < 0 || end > hashes.length) throw new RangeError('no hash at this position');
  return hashes.subarray(end - HASH_BYTES, end);
}

/** @throws RangeError unless it is a whole number from 0 to 2^53 - 1 */
export function requireSize(size: number): void {
  if (!Number.isSafeInteger(size) || size < 0) throw new RangeError('not a size of a tree');
}
