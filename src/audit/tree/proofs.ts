/**
 * Inclusion and consistency proofs: RFC 6962 sections 2.1.1 and 2.1.2, verified as RFC 9162 sections
 * 2.1.3.2 and 2.1.4.2 say. A proof is a list of hashes, 32 bytes each.
 */
import { equalBytes } from '../../crypto/bytes.ts';
import { EMPTY_ROOT, HASH_BYTES, nodeHash, perfectRoot, requireSize } from './hashes.ts';
import { foldSubtrees } from './frontier.ts';
import { requireTile } from './edge.ts';
import type { ReadTile } from './edge.ts';
import { TILE_WIDTH, widthAt } from './tiles.ts';
import type { TileId } from './tiles.ts';

/**
 * Proof that the leaf of this index is in the tree of this size.
 * @param read gives tiles of a tree of at least this size
 * @throws RangeError when the tree has no such leaf
 * @throws TwofoldError `integrity_failed` when a tile is missing
 */
export async function inclusionProof(
  index: number,
  size: number,
  read: ReadTile,
): Promise<readonly Uint8Array[]> {
  return rangeRoots(inclusionRanges(index, size), size, read);
}

/** Tiles that `inclusionProof` reads, each once. @throws RangeError when the tree has no such leaf */
export function inclusionTiles(index: number, size: number): readonly TileId[] {
  const tiles = new Map<string, TileId>();
  for (const [low, high] of inclusionRanges(index, size)) {
    for (const { level, tile } of subtrees(low, high)) {
      tiles.set(`${level}/${tile}`, { level, index: tile, width: widthAt(level, tile, size) });
    }
  }
  return [...tiles.values()];
}

function inclusionRanges(index: number, size: number): readonly Range[] {
  requireSize(size);
  if (!Number.isSafeInteger(index) || index < 0 || index >= size) throw new RangeError('no leaf');
  const ranges: Range[] = [];
  for (let [low, high] = [0, size]; high - low > 1;) {
    const split = low + largestPowerBelow(high - low);
    if (index < split) {
      ranges.unshift([split, high]);
      high = split;
    } else {
      ranges.unshift([low, split]);
      low = split;
    }
  }
  return ranges;
}

/**
 * Proof that the tree of size `to` begins with that of size `from`; empty when either is trivially so.
 * @throws as `inclusionProof`
 */
export async function consistencyProof(
  from: number,
  to: number,
  read: ReadTile,
): Promise<readonly Uint8Array[]> {
  requireSize(from);
  requireSize(to);
  if (from > to) throw new RangeError('a tree does not shrink');
  if (from === 0 || from === to) return [];
  const ranges: Range[] = [];
  let [low, high] = [0, to];
  while (high !== from) {
    const split = low + largestPowerBelow(high - low);
    if (from <= split) {
      ranges.unshift([split, high]);
      high = split;
    } else {
      ranges.unshift([low, split]);
      low = split;
    }
  }
  // Without this first hash when the older tree is the subtree itself: its root is known.
  if (low > 0) ranges.unshift([low, high]);
  return rangeRoots(ranges, to, read);
}

/** Root of the tree of this size, from its tiles. */
export async function treeRoot(size: number, read: ReadTile): Promise<Uint8Array> {
  requireSize(size);
  if (size === 0) return EMPTY_ROOT;
  const [root = EMPTY_ROOT] = await rangeRoots([[0, size]], size, read);
  return root;
}

/** Whether the proof shows that a leaf with this hash has this index in the tree. */
export function verifyInclusion(
  claim: {
    readonly index: number;
    readonly leaf: Uint8Array;
    readonly size: number;
    readonly root: Uint8Array;
  },
  proof: readonly Uint8Array[],
): boolean {
  const { index, leaf, size, root } = claim;
  if (![index, size].every(isSize) || index >= size || !wellFormed(leaf, root, ...proof)) {
    return false;
  }
  let [node, last, hash] = [index, size - 1, leaf];
  for (const step of proof) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      hash = nodeHash(step, hash);
      while (node % 2 === 0 && node !== 0) [node, last] = [half(node), half(last)];
    } else {
      hash = nodeHash(hash, step);
    }
    [node, last] = [half(node), half(last)];
  }
  return last === 0 && equalBytes(hash, root);
}

/** Whether the proof shows that the newer tree begins with the older one. */
export function verifyConsistency(
  older: { readonly size: number; readonly root: Uint8Array },
  newer: { readonly size: number; readonly root: Uint8Array },
  proof: readonly Uint8Array[],
): boolean {
  if (![older.size, newer.size].every(isSize) || older.size > newer.size) return false;
  if (!wellFormed(older.root, newer.root, ...proof)) return false;
  if (older.size === newer.size) return proof.length === 0 && equalBytes(older.root, newer.root);
  if (older.size === 0) return proof.length === 0 && equalBytes(older.root, EMPTY_ROOT);
  return verifyGrowth(older, newer, proof);
}

function verifyGrowth(
  older: { readonly size: number; readonly root: Uint8Array },
  newer: { readonly size: number; readonly root: Uint8Array },
  proof: readonly Uint8Array[],
): boolean {
  let [node, last] = [older.size - 1, newer.size - 1];
  while (node % 2 === 1) [node, last] = [half(node), half(last)];
  // The older tree is a perfect subtree of the newer exactly when nothing is left of its index.
  const [first, ...steps] = node === 0 ? [older.root, ...proof] : proof;
  if (first === undefined) return false;
  let [old, now] = [first, first];
  for (const step of steps) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      old = nodeHash(step, old);
      now = nodeHash(step, now);
      while (node % 2 === 0 && node !== 0) [node, last] = [half(node), half(last)];
    } else {
      now = nodeHash(now, step);
    }
    [node, last] = [half(node), half(last)];
  }
  return last === 0 && equalBytes(old, older.root) && equalBytes(now, newer.root);
}

const half = (number: number): number => Math.floor(number / 2);
const isSize = (size: number): boolean => Number.isSafeInteger(size) && size >= 0;
const wellFormed = (...hashes: readonly Uint8Array[]): boolean =>
  hashes.every(({ length }) => length === HASH_BYTES);

/** Leaves from the first to before the second; the first is a multiple of the range's power of two. */
type Range = readonly [low: number, high: number];

/** RFC 6962: the largest power of two smaller than n, for n from 2. */
function largestPowerBelow(n: number): number {
  let power = 1;
  while (power * 2 < n) power *= 2;
  return power;
}

/** Hash of each range; a tile is read once for all of them. */
async function rangeRoots(
  ranges: readonly Range[],
  size: number,
  read: ReadTile,
): Promise<readonly Uint8Array[]> {
  const tiles = new Map<string, Promise<Uint8Array>>();
  const tile = (level: number, index: number): Promise<Uint8Array> => {
    const key = `${level}/${index}`;
    const known = tiles.get(key);
    if (known !== undefined) return known;
    const reading = requireTile(read, { level, index, width: widthAt(level, index, size) });
    tiles.set(key, reading);
    return reading;
  };
  const roots: Uint8Array[] = [];
  for (const [low, high] of ranges) {
    const parts: Uint8Array[] = [];
    for (const { level, tile: index, first, count } of subtrees(low, high)) {
      const hashes = await tile(level, index);
      parts.push(perfectRoot(hashes.subarray(first * HASH_BYTES, (first + count) * HASH_BYTES)));
    }
    roots.push(foldSubtrees(parts));
  }
  return roots;
}

/** A perfect subtree: `count` hashes, from the one at `first` on, of a tile. */
interface Subtree {
  readonly level: number;
  readonly tile: number;
  readonly first: number;
  readonly count: number;
}

/** The perfect subtrees that a range consists of, the largest that fit. */
function* subtrees(low: number, high: number): Generator<Subtree> {
  for (let start = low; start < high;) {
    let leaves = 1;
    while (start % (leaves * 2) === 0 && start + leaves * 2 <= high) leaves *= 2;
    let level = 0;
    let unit = 1;
    for (; unit * TILE_WIDTH <= leaves; unit *= TILE_WIDTH) level += 1;
    const at = start / unit;
    const tile = Math.floor(at / TILE_WIDTH);
    yield { level, tile, first: at % TILE_WIDTH, count: leaves / unit };
    start += leaves;
  }
}
