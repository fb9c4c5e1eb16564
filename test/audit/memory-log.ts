/** A tree in memory, straight from the definitions of RFC 6962: what proofs and readers are compared with. */
import { createHash } from 'node:crypto';
import type { LogReader } from '../../src/audit/log-ports.ts';
import type { TileId } from '../../src/audit/tree/tiles.ts';
import { NO_COLUMNS } from './drafts.ts';

const sha256 = (...parts: readonly Uint8Array[]): Uint8Array => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return Uint8Array.from(hash.digest());
};

export const leafOf = (body: Uint8Array): Uint8Array => sha256(Uint8Array.of(0), body);

/** MTH of section 2.1. */
export const treeHash = (leaves: readonly Uint8Array[]): Uint8Array => {
  const [first] = leaves;
  if (first === undefined) return sha256();
  if (leaves.length === 1) return first;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return sha256(Uint8Array.of(1), treeHash(leaves.slice(0, k)), treeHash(leaves.slice(k)));
};

export class MemoryLog implements LogReader {
  readonly leaves: Uint8Array[] = [];
  readonly bodies: Uint8Array[] = [];
  note: string | null = null;

  grow(count: number, salt = ''): void {
    for (let i = 0; i < count; i += 1) {
      const body = Buffer.from(`${salt}${String(this.leaves.length)}`);
      this.bodies.push(body);
      this.leaves.push(leafOf(body));
    }
  }

  /** A log that went the same way until `size`. */
  upTo(size: number): MemoryLog {
    const log = new MemoryLog();
    log.leaves.push(...this.leaves.slice(0, size));
    log.bodies.push(...this.bodies.slice(0, size));
    return log;
  }

  root(size = this.leaves.length): Uint8Array {
    return treeHash(this.leaves.slice(0, size));
  }

  archived = () => Promise.resolve({ until: 0, removed: 0, place: '' });

  head = () => Promise.resolve({ size: this.leaves.length, root: this.root(), note: this.note });

  tile = (level: number, index: number, width: number) => {
    const span = 256 ** level;
    const first = index * 256 * span;
    if (first + width * span > this.leaves.length || width < 1) return Promise.resolve(null);
    const hashes = Array.from({ length: width }, (_, i) =>
      treeHash(this.leaves.slice(first + i * span, first + (i + 1) * span)),
    );
    return Promise.resolve(Uint8Array.from(Buffer.concat(hashes)));
  };

  tiles = (wanted: readonly TileId[]) =>
    Promise.all(wanted.map(({ level, index, width }) => this.tile(level, index, width)));

  /** As if one lane had them all. */
  entries = (from: number, until: number) =>
    Promise.resolve(
      this.bodies.slice(from, until).map((body, at) => ({
        ...{ index: from + at, lane: 1, n: from + at + 1, body, columns: NO_COLUMNS },
        leaf: this.leaves[from + at] ?? new Uint8Array(32),
      })),
    );
  indexOf = () => Promise.reject(new Error('not asked for here'));
  checkpoints = () => Promise.reject(new Error('not asked for here'));
  sizeAt = () => Promise.reject(new Error('not asked for here'));
}
