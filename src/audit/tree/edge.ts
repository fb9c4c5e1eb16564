/**
 * The right edge of a tree in tiles: the last, partial tile of each level. It is all that growing
 * needs: what growth gives is the new edge and the tiles that it made.
 */
import { TwofoldError } from '../../errors.ts';
import { HASH_BYTES, hashAt, perfectRoot, requireSize } from './hashes.ts';
import { foldSubtrees } from './frontier.ts';
import { hashesAt, TILE_BYTES, TILE_WIDTH } from './tiles.ts';
import type { TileId } from './tiles.ts';

/** A tile with its hashes, `width` times 32 bytes. */
export interface Tile extends TileId {
  readonly hashes: Uint8Array;
}

/**
 * Reads the first `width` hashes of a tile (32 bytes each), null when it is not there; a store that
 * has only the wider tile gives its beginning.
 */
export type ReadTile = (level: number, index: number, width: number) => Promise<Uint8Array | null>;

const broken = (why: string): TwofoldError =>
  new TwofoldError('integrity_failed', undefined, { cause: new TypeError(`tiles: ${why}`) });

/** @throws TwofoldError `integrity_failed` when the tile is missing or of another width */
export async function requireTile(read: ReadTile, tile: TileId): Promise<Uint8Array> {
  const { level, index, width } = tile;
  const hashes = await read(level, index, width);
  if (hashes?.length !== width * HASH_BYTES) {
    throw broken(`level ${level}, index ${index} of width ${width} is not there`);
  }
  return hashes;
}

/** Immutable. */
export class Edge {
  readonly size: number;
  /** By level: the hashes of its partial tile; of no length where the last tile is full. */
  readonly #levels: readonly Uint8Array[];

  private constructor(size: number, levels: readonly Uint8Array[]) {
    this.size = size;
    this.#levels = levels;
  }

  static readonly EMPTY = new Edge(0, []);

  /**
   * Whoever loads compares `root` with the checkpoint's.
   * @throws TwofoldError `integrity_failed` when a tile is missing or of another width
   */
  static async load(size: number, read: ReadTile): Promise<Edge> {
    requireSize(size);
    const levels: Uint8Array[] = [];
    for (let level = 0; hashesAt(level, size) > 0; level++) {
      const width = hashesAt(level, size) % TILE_WIDTH;
      const index = Math.floor(hashesAt(level, size) / TILE_WIDTH);
      const hashes = width === 0 ? NONE : await requireTile(read, { level, index, width });
      levels.push(Uint8Array.from(hashes));
    }
    return new Edge(size, levels);
  }

  /** From its partial tiles, as `partialTiles` gives them, in any order; `root` tells whether they are the tree's. */
  static of(size: number, tiles: readonly Pick<Tile, 'level' | 'hashes'>[]): Edge {
    requireSize(size);
    const levels: Uint8Array[] = [];
    for (let level = 0; hashesAt(level, size) > 0; level++) {
      const width = hashesAt(level, size) % TILE_WIDTH;
      const hashes = tiles.find((tile) => tile.level === level)?.hashes ?? NONE;
      if (hashes.length !== width * HASH_BYTES)
        throw broken(`level ${level} is not of size ${size}`);
      levels.push(hashes);
    }
    return new Edge(size, levels);
  }

  /** The last tile of each level that is not full, from level 0 up. */
  partialTiles(): readonly Tile[] {
    return this.#levels.flatMap((hashes, level) => {
      const index = Math.floor(hashesAt(level, this.size) / TILE_WIDTH);
      return hashes.length === 0 ? [] : [tileOf(level, index, hashes)];
    });
  }

  root(): Uint8Array {
    return foldSubtrees(this.#levels.flatMap(subtrees).reverse());
  }

  /**
   * @param leaves leaf hashes in order
   * @returns the edge after them and the tiles made, completed or widened, in the order of
   *   `tilesOfGrowth`; this edge stays as it is
   */
  grow(leaves: readonly Uint8Array[]): { readonly edge: Edge; readonly tiles: readonly Tile[] } {
    requireSize(this.size + leaves.length);
    const tiles: Tile[] = [];
    const levels: Uint8Array[] = [];
    let added = leaves;
    for (let level = 0; added.length > 0 || level < this.#levels.length; level++) {
      const before = this.#levels[level] ?? NONE;
      const first = Math.floor(hashesAt(level, this.size) / TILE_WIDTH);
      const grown = growLevel(before, added);
      const made = grown.full.map((hashes, at) => tileOf(level, first + at, hashes));
      tiles.push(...made);
      if (added.length > 0 && grown.partial.length > 0) {
        tiles.push(tileOf(level, first + made.length, grown.partial));
      }
      levels.push(grown.partial);
      added = grown.full.map(perfectRoot);
    }
    return { edge: new Edge(this.size + leaves.length, levels), tiles };
  }
}

const NONE = new Uint8Array(0);

const tileOf = (level: number, index: number, hashes: Uint8Array): Tile => ({
  level,
  index,
  width: hashes.length / HASH_BYTES,
  hashes,
});

function growLevel(before: Uint8Array, added: readonly Uint8Array[]) {
  if (added.length === 0) return { full: [], partial: before };
  const joined = new Uint8Array(before.length + added.length * HASH_BYTES);
  joined.set(before);
  added.forEach((hash, at) => {
    if (hash.length !== HASH_BYTES) throw new RangeError('a hash of the tree has 32 bytes');
    joined.set(hash, before.length + at * HASH_BYTES);
  });
  const full: Uint8Array[] = [];
  let start = 0;
  for (; joined.length - start >= TILE_BYTES; start += TILE_BYTES) {
    full.push(joined.slice(start, start + TILE_BYTES));
  }
  return { full, partial: joined.slice(start) };
}

/** Roots of the perfect subtrees that a partial tile consists of, the smallest (rightmost) first. */
function subtrees(hashes: Uint8Array): Uint8Array[] {
  const roots: Uint8Array[] = [];
  let end = hashes.length / HASH_BYTES;
  for (let leaves = 1; end > 0; leaves *= 2) {
    if ((end / leaves) % 2 === 0) continue;
    const start = (end - leaves) * HASH_BYTES;
    roots.push(
      leaves === 1
        ? hashAt(hashes, end - 1)
        : perfectRoot(hashes.subarray(start, end * HASH_BYTES)),
    );
    end -= leaves;
  }
  return roots;
}
