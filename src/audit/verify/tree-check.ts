/** Holds bundles against tiles, and tiles against one another, while the tree grows. */
import { hash } from 'node:crypto';
import type { Edge, Tile } from '../tree/edge.ts';
import { HASH_BYTES, hashAt, perfectRoot } from '../tree/hashes.ts';
import { TILE_WIDTH, tilePath, widthAt } from '../tree/tiles.ts';
import { MalformedFile } from './folder.ts';
import type { Bundle, ExportFolder } from './folder.ts';
import type { Problems } from './problems.ts';

export class TreeCheck {
  readonly #folder: ExportFolder;
  readonly #problems: Problems;
  readonly #size: number;
  #edge: Edge;
  /** By level above 0, then by index: hashes of tiles as the entries make them. 32 bytes for 256 entries. */
  readonly #grown: Uint8Array[][] = [];
  #parent: { readonly index: number; readonly hashes: Uint8Array | null } | null = null;

  constructor(folder: ExportFolder, problems: Problems, size: number, edge: Edge) {
    this.#folder = folder;
    this.#problems = problems;
    this.#size = size;
    this.#edge = edge;
    for (const tile of edge.partialTiles()) this.#keep(tile);
  }

  /** Root of a subtree of 256^level leaves, level 1 or above; null where no entry of it was looked at. */
  hash(level: number, index: number): Uint8Array | null {
    const tile = this.#grown[level]?.[Math.floor(index / TILE_WIDTH)];
    const at = index % TILE_WIDTH;
    return tile === undefined || tile.length < (at + 1) * HASH_BYTES ? null : hashAt(tile, at);
  }

  #keep({ level, index, hashes }: Tile): void {
    if (level > 0) (this.#grown[level] ??= [])[index] = hashes;
  }

  root(): Uint8Array {
    return this.#edge.root();
  }

  /** Root once the first `count` of these leaves are in the tree. */
  rootWith(leaves: Uint8Array, count: number): Uint8Array {
    return this.#edge.grow(listOf(leaves.subarray(0, count * HASH_BYTES))).edge.root();
  }

  /**
   * The leaves that the tree is to grow by: those of the entries, or those of the tile where the tile
   * is what the tree says and an entry is not.
   * @param own leaf hashes of the bundle; null where there is no bundle that can be read
   * @param wantedRoot of the whole tree, by its newest checkpoint
   * @returns null where neither is there
   */
  leaves(
    index: number,
    width: number,
    own: Uint8Array | null,
    wantedRoot: Uint8Array,
  ): Uint8Array | null {
    const tile = this.#tile(0, index, width);
    if (tile === null || own === null) return own ?? tile;
    const at = firstDifference(own, tile);
    if (at === null) return own;
    const first = index * TILE_WIDTH + at;
    const path = tilePath({ level: 0, index, width });
    if (this.#isOfTree(index, width, tile, wantedRoot)) {
      this.#altered(index, width, own, tile);
      return tile;
    }
    this.#problems.add('tile_altered', first, path, 'the hash is not that of the entry');
    return own;
  }

  /** Each entry of a bundle that is not the one of its tile. */
  #altered(index: number, width: number, own: Uint8Array, tile: Uint8Array): void {
    const path = tilePath({ level: 'entries', index, width });
    const why = 'the entry that stands there is not the one that the tree has';
    for (let at = 0; at < width; at += 1) {
      if (same(hashAt(own, at), hashAt(tile, at))) continue;
      this.#problems.add('entry_altered', index * TILE_WIDTH + at, path, why);
    }
  }

  /** Grows by the leaves of one tile, and holds the tiles above that this completes against the folder. */
  grow(leaves: Uint8Array): void {
    const grown = this.#edge.grow(listOf(leaves));
    this.#edge = grown.edge;
    const last = grown.edge.size === this.#size;
    for (const { level, index, width, hashes } of grown.tiles) {
      this.#keep({ level, index, width, hashes });
      if (level === 0 || (width < TILE_WIDTH && !last)) continue;
      this.#compare(level, index, width, hashes);
    }
    if (last) this.#compareRest(new Set(grown.tiles.map(({ level }) => level)));
  }

  /** The last, partial tiles of levels that the last growth did not touch. */
  #compareRest(done: ReadonlySet<number>): void {
    for (const { level, index, width, hashes } of this.#edge.partialTiles()) {
      if (!done.has(level)) this.#compare(level, index, width, hashes);
    }
  }

  #compare(level: number, index: number, width: number, hashes: Uint8Array): void {
    const tile = this.#tile(level, index, width);
    const at = tile === null ? null : firstDifference(hashes, tile);
    if (at === null) return;
    const first = (index * TILE_WIDTH + at) * TILE_WIDTH ** level;
    const path = tilePath({ level, index, width });
    this.#problems.add('tile_altered', first, path, `hash ${at} is not that of the tiles below`);
  }

  /** Null, and a problem, when it is not there. */
  #tile(level: number, index: number, width: number): Uint8Array | null {
    const first = index * TILE_WIDTH ** (level + 1);
    const path = tilePath({ level, index, width });
    const tile = readOr(this.#problems, first, path, () => this.#folder.tile(level, index, width));
    return tile ?? null;
  }

  /** Whether the tile is the one that the tiles above, or for the last one the root, say. */
  #isOfTree(index: number, width: number, tile: Uint8Array, wantedRoot: Uint8Array): boolean {
    if (width < TILE_WIDTH) return same(this.rootWith(tile, width), wantedRoot);
    const above = this.#parentOf(Math.floor(index / TILE_WIDTH));
    if (above === null) return false;
    return same(perfectRoot(tile), hashAt(above, index % TILE_WIDTH));
  }

  #parentOf(index: number): Uint8Array | null {
    if (this.#parent?.index === index) return this.#parent.hashes;
    let hashes: Uint8Array | null = null;
    try {
      hashes = this.#folder.tile(1, index, widthAt(1, index, this.#size));
    } catch (error) {
      if (!(error instanceof MalformedFile)) throw error;
    }
    this.#parent = { index, hashes };
    return hashes;
  }
}

/** Null, and a problem, for what is not there or is malformed. */
export function readOr<T>(
  problems: Problems,
  index: number | null,
  path: string,
  read: () => T | null,
): T | null {
  try {
    const found = read();
    if (found === null) problems.add('file_missing', index, path, 'the file is not there');
    return found;
  } catch (error) {
    if (!(error instanceof MalformedFile)) throw error;
    problems.add('file_malformed', index, path, error.message);
    return null;
  }
}

/** Leaf hashes of a bundle. Overwrites the byte before each entry with the prefix of leaves. */
export function leafHashes({ bytes, starts, ends }: Bundle): Uint8Array {
  const leaves = new Uint8Array(starts.length * HASH_BYTES);
  for (let at = 0; at < starts.length; at += 1) {
    const prefix = (starts[at] ?? 1) - 1;
    bytes[prefix] = 0;
    leaves.set(hash('sha256', bytes.subarray(prefix, ends[at]), 'buffer'), at * HASH_BYTES);
  }
  return leaves;
}

function listOf(hashes: Uint8Array): Uint8Array[] {
  return Array.from({ length: hashes.length / HASH_BYTES }, (_, at) => hashAt(hashes, at));
}

/** Position of the first hash that differs; null for equal ones. */
function firstDifference(a: Uint8Array, b: Uint8Array): number | null {
  if (same(a, b)) return null;
  let at = 0;
  while (a[at] === b[at]) at += 1;
  return Math.floor(at / HASH_BYTES);
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
