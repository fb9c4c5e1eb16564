/** Where the right edge of a stored tree disagrees with itself: for people who have to find what was altered. */
import { equalBytes } from '../crypto/bytes.ts';
import type { LogReader } from './log-ports.ts';
import { HASH_BYTES, hashAt, leafHash, perfectRoot } from './tree/hashes.ts';
import { TILE_WIDTH, hashesAt, tilePath } from './tree/tiles.ts';

type Reader = Pick<LogReader, 'tile' | 'entries'>;

/**
 * The first disagreement among the tiles that a proof to the head reads: a tile that is missing, one that is not
 * the root of that below, or an entry that is not its leaf. In words, with indexes; null where there is none. At most
 * 256 tiles of each level are read.
 */
export async function alteredPlace(reader: Reader, size: number): Promise<string | null> {
  const levels: number[] = [];
  for (let level = 1; hashesAt(level, size) > 0; level += 1) levels.unshift(level);
  for (const level of levels) {
    const found = await alteredTile(reader, level, size);
    if (found !== null) return found;
  }
  return alteredEntry(reader, size);
}

async function alteredTile(reader: Reader, level: number, size: number): Promise<string | null> {
  const hashes = hashesAt(level, size);
  const first = Math.floor((hashes - 1) / TILE_WIDTH) * TILE_WIDTH;
  const width = hashes - first;
  const tile = { level, index: first / TILE_WIDTH, width };
  const own = await reader.tile(level, tile.index, width);
  if (own?.length !== width * HASH_BYTES) return `${tilePath(tile)} is missing`;
  for (let at = 0; at < width; at += 1) {
    const below = { level: level - 1, index: first + at, width: TILE_WIDTH };
    const read = await reader.tile(below.level, below.index, below.width);
    if (read === null) return `${tilePath(below)} is missing${entriesOf(below)}`;
    if (equalBytes(perfectRoot(read), hashAt(own, at))) continue;
    return `${tilePath(below)} is not that of which ${tilePath(tile)} has the root${entriesOf(below)}`;
  }
  return null;
}

function entriesOf({ level, index }: { readonly level: number; readonly index: number }): string {
  const span = TILE_WIDTH ** (level + 1);
  return `, entries ${String(index * span)} to ${String((index + 1) * span - 1)}`;
}

/** Of those behind the last whole tile. */
async function alteredEntry(reader: Reader, size: number): Promise<string | null> {
  const from = size - (size % TILE_WIDTH);
  const found = await reader.entries(from, size);
  for (const { index, lane, n, leaf, body } of found) {
    if (equalBytes(leafHash(body), leaf)) continue;
    return `entry ${String(lane)}-${String(n)}, index ${String(index)}, is not its leaf`;
  }
  const there = new Set(found.map(({ index }) => index));
  for (let index = from; index < size; index += 1) {
    if (!there.has(index)) return `the entry of index ${String(index)} is missing`;
  }
  return null;
}
