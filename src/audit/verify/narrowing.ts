/**
 * Finds the first leaf in which the tree that is shown differs from the one that was signed, with tiles of another
 * time: an older export, or tiles that somebody kept. Nothing of them is believed but what hashes to the signed
 * root; of levels whose tiles are missing, the answer is as wide as a hash of the level above.
 */
import { equalBytes } from '../../crypto/bytes.ts';
import { Edge } from '../tree/edge.ts';
import { HASH_BYTES, hashAt, perfectRoot } from '../tree/hashes.ts';
import { hashesAt, TILE_WIDTH } from '../tree/tiles.ts';

/** Tiles that are asked what was there. */
export interface Reference {
  readonly name: string;
  /** Entries that its tree has. */
  readonly size: number;
  /** The first `width` hashes of a tile; null where it is not there or is none. */
  tile(level: number, index: number, width: number): Uint8Array | null;
}

/** The tree that is looked at, as its entries make it. */
export interface Shown {
  /** Root of the subtree `index` of 256^level leaves; null where it is not known. */
  hash(level: number, index: number): Uint8Array | null;
}

/** The first bad index is in [from, until). `by` names what told it; null where nothing narrowed it. */
export interface Narrowed {
  readonly from: number;
  readonly until: number;
  readonly by: string | null;
}

/** A checkpoint that was signed, of `size` entries with this root, and what checkpoints alone tell. */
export interface Signed {
  readonly from: number;
  readonly until: number;
  readonly size: number;
  readonly root: Uint8Array;
}

/** The narrowest of what the references tell. */
export function narrowed(signed: Signed, references: readonly Reference[], shown: Shown): Narrowed {
  let best: Narrowed = { from: signed.from, until: signed.until, by: null };
  for (const reference of references) {
    const found = firstDifference(signed, reference, shown);
    if (found !== null && found.until - found.from < best.until - best.from) best = found;
  }
  return best;
}

function firstDifference(signed: Signed, reference: Reference, shown: Shown): Narrowed | null {
  const tiles = edgeOf(signed, reference);
  if (tiles === null) return null;
  for (const { level, index, hashes } of tiles) {
    const found = descend({ level, first: index * TILE_WIDTH, hashes }, reference, shown);
    if (found === null) continue;
    const [from, until] = [Math.max(signed.from, found.from), Math.min(signed.until, found.until)];
    return from < until ? { from, until, by: reference.name } : null;
  }
  return null;
}

interface EdgeTile {
  readonly level: number;
  readonly index: number;
  readonly hashes: Uint8Array;
}

/** The right edge of the signed tree, from left to right; null where the tiles have another root. */
function edgeOf({ size, root }: Signed, reference: Reference): readonly EdgeTile[] | null {
  if (reference.size < size) return null;
  const tiles: EdgeTile[] = [];
  for (let level = 0; hashesAt(level, size) > 0; level += 1) {
    const width = hashesAt(level, size) % TILE_WIDTH;
    if (width === 0) continue;
    const index = Math.floor(hashesAt(level, size) / TILE_WIDTH);
    const hashes = reference.tile(level, index, width);
    if (hashes === null) return null;
    tiles.unshift({ level, index, hashes });
  }
  return equalBytes(Edge.of(size, tiles).root(), root) ? tiles : null;
}

interface Genuine {
  readonly level: number;
  /** Index in its level of the first of these hashes. */
  readonly first: number;
  readonly hashes: Uint8Array;
}

function descend(
  { level, first, hashes }: Genuine,
  reference: Reference,
  shown: Shown,
): { readonly from: number; readonly until: number } | null {
  for (let at = 0; at < hashes.length / HASH_BYTES; at += 1) {
    const [genuine, own] = [hashAt(hashes, at), shown.hash(level, first + at)];
    if (own === null || equalBytes(genuine, own)) continue;
    const below = level === 0 ? null : reference.tile(level - 1, first + at, TILE_WIDTH);
    if (below !== null && equalBytes(perfectRoot(below), genuine)) {
      const tile = { level: level - 1, first: (first + at) * TILE_WIDTH, hashes: below };
      const closer = descend(tile, reference, shown);
      if (closer !== null) return closer;
    }
    const span = TILE_WIDTH ** level;
    return { from: (first + at) * span, until: (first + at + 1) * span };
  }
  return null;
}
