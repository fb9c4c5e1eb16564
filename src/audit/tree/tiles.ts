/**
 * C2SP tlog-tiles: the tree cut into tiles of height 8. The hashes of level L are those of the subtrees
 * of 256^L leaves; a full tile holds 256 of them (8,192 bytes), the last of a level may hold fewer.
 */
import { TwofoldError } from '../../errors.ts';
import { HASH_BYTES, requireSize } from './hashes.ts';

export const TILE_WIDTH = 256;
export const TILE_BYTES = TILE_WIDTH * HASH_BYTES;
/** 256^7 is over 2^53: no tree of ours has hashes above level 6. */
export const MAX_LEVEL = 6;

/** A tile: `index` counts from 0 in its level, `width` from 1 to 256 (full). */
export interface TileId {
  readonly level: number;
  readonly index: number;
  readonly width: number;
}

/** A bundle of whole entries, at `tile/entries/…`: the leaves of the tile of level 0 of the same index. */
export interface BundleId {
  readonly level: 'entries';
  readonly index: number;
  readonly width: number;
}

/** How many hashes level `level` of a tree of this size has. */
export function hashesAt(level: number, size: number): number {
  requireSize(size);
  return Math.floor(size / TILE_WIDTH ** level);
}

/** How wide the tile is in a tree of this size: 256 when full, 0 when it is not there. */
export function widthAt(level: number, index: number, size: number): number {
  return Math.max(0, Math.min(TILE_WIDTH, hashesAt(level, size) - index * TILE_WIDTH));
}

/** `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`, without a leading slash. */
export function tilePath({ level, index, width }: TileId | BundleId): string {
  if (!isTile(level, index, width)) throw new RangeError('there is no such tile');
  const partial = width === TILE_WIDTH ? '' : `.p/${width}`;
  return `tile/${level}/${indexPath(index)}${partial}`;
}

/** 1234067 is `x001/x234/067`. */
function indexPath(index: number): string {
  const groups = [threeDigits(index % 1000)];
  for (let rest = Math.floor(index / 1000); rest > 0; rest = Math.floor(rest / 1000)) {
    groups.unshift(`x${threeDigits(rest % 1000)}`);
  }
  return groups.join('/');
}

const threeDigits = (number: number): string => String(number).padStart(3, '0');

const PATH = /^tile\/(entries|\d{1,2})\/((?:x\d{3}\/){0,5}\d{3})(?:\.p\/(\d{1,3}))?$/;

/**
 * Only what `tilePath` writes.
 * @throws TwofoldError `invalid_value`
 */
export function parseTilePath(path: string): TileId | BundleId {
  const [, level = '', groups = '', partial] = PATH.exec(path) ?? [];
  const index = Number(groups.replaceAll(/[x/]/g, ''));
  const width = partial === undefined ? TILE_WIDTH : Number(partial);
  const tile =
    level === 'entries'
      ? ({ level, index, width } as const)
      : { level: Number(level), index, width };
  if (groups === '' || !isTile(tile.level, index, width) || tilePath(tile) !== path) {
    throw new TwofoldError('invalid_value', 'This is not the path of a tile of C2SP tlog-tiles.');
  }
  return tile;
}

function isTile(level: number | 'entries', index: number, width: number): boolean {
  const number = level === 'entries' ? 0 : level;
  if (!Number.isInteger(number) || number < 0 || number > MAX_LEVEL) return false;
  if (!Number.isInteger(width) || width < 1 || width > TILE_WIDTH) return false;
  const hashes = index * TILE_WIDTH + width;
  return (
    Number.isInteger(index) && index >= 0 && Number.isSafeInteger(hashes * TILE_WIDTH ** number)
  );
}

/**
 * The tiles that a growth from one size to another makes, completes or widens, level by level and
 * from left to right; the last of a level may be partial.
 */
export function* tilesOfGrowth(from: number, to: number): Generator<TileId> {
  if (from > to) throw new RangeError('a tree does not shrink');
  for (let level = 0; hashesAt(level, from) < hashesAt(level, to); level++) {
    const first = Math.floor(hashesAt(level, from) / TILE_WIDTH);
    for (let index = first; index * TILE_WIDTH < hashesAt(level, to); index++) {
      yield { level, index, width: widthAt(level, index, to) };
    }
  }
}

/** All tiles of a tree of this size. */
export const tilesOf = (size: number): Generator<TileId> => tilesOfGrowth(0, size);
