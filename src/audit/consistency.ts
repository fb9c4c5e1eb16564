/** Consistency proofs of RFC 6962 section 2.1.2: made from tiles (C2SP tlog-tiles), and verified. */
import { createHash } from 'node:crypto';
import { equalBytes } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import type { LogReader } from './log-ports.ts';

const HASH_LENGTH = 32;
const TILE_HEIGHT = 8;
const TILE_WIDTH = 256;
const NODE = Uint8Array.of(1);

const nodeHash = (left: Uint8Array, right: Uint8Array): Uint8Array =>
  createHash('sha256').update(NODE).update(left).update(right).digest();

/** The largest power of two below `n`, which is 2 at least. */
const splitOf = (n: number): number => {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
};

/** Hashes of one tree of `size` leaves; a tile that was read is kept. */
class Tiles {
  readonly #reader: Pick<LogReader, 'tile'>;
  readonly #size: number;
  readonly #read = new Map<string, Promise<Uint8Array>>();

  constructor(reader: Pick<LogReader, 'tile'>, size: number) {
    this.#reader = reader;
    this.#size = size;
  }

  /** MTH(D[from:to]), where both are cuts of the tree. */
  async range(from: number, to: number): Promise<Uint8Array> {
    const count = to - from;
    const level = Math.log2(count);
    if (Number.isInteger(level)) return this.#node(level, from / count);
    const k = splitOf(count);
    return nodeHash(await this.range(from, from + k), await this.range(from + k, to));
  }

  /** The node over leaves `index · 2^level` onwards. */
  async #node(level: number, index: number): Promise<Uint8Array> {
    const tileLevel = Math.floor(level / TILE_HEIGHT);
    const count = 2 ** (level - tileLevel * TILE_HEIGHT);
    const first = index * count;
    const tile = await this.#tile(tileLevel, Math.floor(first / TILE_WIDTH));
    const at = (first % TILE_WIDTH) * HASH_LENGTH;
    if (tile.length < at + count * HASH_LENGTH) throw gone();
    let hashes = Array.from({ length: count }, (_, offset) =>
      tile.subarray(at + offset * HASH_LENGTH, at + (offset + 1) * HASH_LENGTH),
    );
    while (hashes.length > 1) {
      hashes = hashes.flatMap((left, i) => {
        const right = hashes[i + 1];
        return i % 2 === 0 && right !== undefined ? [nodeHash(left, right)] : [];
      });
    }
    return hashes[0] ?? new Uint8Array(0);
  }

  #tile(level: number, index: number): Promise<Uint8Array> {
    const key = `${String(level)}/${String(index)}`;
    const known = this.#read.get(key);
    if (known !== undefined) return known;
    const complete = Math.floor(this.#size / TILE_WIDTH ** level);
    const width = Math.min(TILE_WIDTH, complete - index * TILE_WIDTH);
    const reading = this.#reader.tile(level, index, width).then((tile) => {
      if (tile === null) throw gone();
      return tile;
    });
    this.#read.set(key, reading);
    return reading;
  }
}

const gone = () => new TwofoldError('integrity_failed', 'A tile of the log is missing.');

/**
 * PROOF(m, D[n]): that the tree of `to` leaves continues the one of `from`.
 * @throws TwofoldError integrity_failed when a tile is missing
 */
export const consistencyProof = async (
  reader: Pick<LogReader, 'tile'>,
  from: number,
  to: number,
): Promise<readonly Uint8Array[]> => {
  if (from === 0 || from === to) return [];
  const tiles = new Tiles(reader, to);
  const proof: Uint8Array[] = [];
  // SUBPROOF(m, D[start:end], whole), from the root down; collected from the root, given from below.
  let [start, end, whole] = [0, to, true];
  while (from !== end) {
    const k = splitOf(end - start);
    if (from - start <= k) {
      proof.push(await tiles.range(start + k, end));
      end = start + k;
    } else {
      proof.push(await tiles.range(start, start + k));
      start += k;
      whole = false;
    }
  }
  if (!whole) proof.push(await tiles.range(start, end));
  return proof.toReversed();
};

interface Tree {
  readonly size: number;
  readonly root: Uint8Array;
}

/** Verification of RFC 9162 section 2.1.4.2. A proof from the empty tree, or between equal ones, is empty. */
export const isConsistent = (from: Tree, to: Tree, proof: readonly Uint8Array[]): boolean => {
  if (from.size > to.size) return false;
  if (from.size === 0) return proof.length === 0;
  if (from.size === to.size) return proof.length === 0 && equalBytes(from.root, to.root);
  const [first, ...path] = isPowerOfTwo(from.size) ? [from.root, ...proof] : proof;
  if (first === undefined) return false;
  let [fn, sn] = [BigInt(from.size - 1), BigInt(to.size - 1)];
  while (fn % 2n === 1n) [fn, sn] = [fn / 2n, sn / 2n];
  let [older, newer] = [first, first];
  for (const hash of path) {
    if (sn === 0n) return false;
    if (fn % 2n === 1n || fn === sn) {
      older = nodeHash(hash, older);
      newer = nodeHash(hash, newer);
      while (fn % 2n === 0n && fn !== 0n) [fn, sn] = [fn / 2n, sn / 2n];
    } else {
      newer = nodeHash(newer, hash);
    }
    [fn, sn] = [fn / 2n, sn / 2n];
  }
  return sn === 0n && equalBytes(older, from.root) && equalBytes(newer, to.root);
};

const isPowerOfTwo = (n: number): boolean => Number.isInteger(Math.log2(n));
