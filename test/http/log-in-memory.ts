/** A sequenced log in memory over a store in memory: every entry is taken when somebody looks. */
import type { LaneReader, LogReader, SequencedEntry } from '../../src/audit/log-ports.ts';
import type { StoredEntry } from '../../src/audit/ports.ts';
import { generateKeyPairSync, sign } from 'node:crypto';
import type { MemoryAuditStore } from '../audit/memory-store.ts';
import { Edge } from '../../src/audit/tree/edge.ts';
import { formatCheckpoint } from '../../src/audit/tree/checkpoint.ts';
import { formatNote } from '../../src/audit/tree/note.ts';
import { SIGNATURE_TYPE, makeVkey } from '../../src/audit/tree/vkey.ts';
import { TILE_WIDTH, hashesAt } from '../../src/audit/tree/tiles.ts';
import type { TileId } from '../../src/audit/tree/tiles.ts';

const HASH = 32;

/** Nothing was sequenced yet. */
export const EMPTY_LOG: LogReader = {
  head: async () => ({ size: 0, root: Edge.EMPTY.root(), note: null }),
  entries: async () => [],
  indexOf: async () => null,
  tile: async () => null,
  tiles: async (wanted) => wanted.map(() => null),
  archived: async () => ({ until: 0, removed: 0, place: '' }),
  checkpoints: async () => [],
  sizeAt: async () => 0,
};

export const NO_LANES: LaneReader = { lanes: async () => [] };

export const memoryLanes = ({ lanes }: Pick<MemoryAuditStore, 'lanes'>): LaneReader => ({
  lanes: async (after, limit) =>
    [...lanes]
      .filter(([lane]) => lane > after)
      .slice(0, limit)
      .map(([lane, { kind, instance, closed, entries }]) => ({
        lane,
        kind,
        instance,
        closed,
        next: entries.length + 1,
      })),
});

const ORIGIN = 'example.com/log';
const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
export const LOG_VKEY = makeVkey(ORIGIN, SIGNATURE_TYPE.ed25519, raw);

/** Signed by `LOG_VKEY`. */
export function noteOf(edge: Edge): string {
  const text = formatCheckpoint({ origin: ORIGIN, size: edge.size, root: edge.root() });
  const signature = sign(null, Buffer.from(text), privateKey);
  return formatNote({ text, signatures: [{ name: ORIGIN, keyId: LOG_VKEY.keyId, signature }] });
}

export class MemoryLog implements LogReader {
  readonly sequenced: SequencedEntry[] = [];
  readonly #all: () => readonly StoredEntry[];
  readonly #places = new Map<string, number>();
  readonly #notes: { size: number; note: string; at: Date }[] = [];
  #edge = Edge.EMPTY;
  readonly #levels: Uint8Array[][] = [];
  /** While false nothing more is taken. */
  taking = true;

  constructor(all: () => readonly StoredEntry[]) {
    this.#all = all;
  }

  /** As if rows of entries were in cold storage. */
  cold = { until: 0, removed: 0, place: '' };

  async archived() {
    return this.cold;
  }

  async head() {
    this.#take();
    const note = this.#notes.at(-1)?.note ?? null;
    return { size: this.#edge.size, root: this.#edge.root(), note };
  }

  async entries(from: number, until: number) {
    return this.sequenced.slice(from, Math.min(until, from + 4096));
  }

  async indexOf(lane: number, n: number) {
    this.#take();
    return this.#places.get(`${lane}-${n}`) ?? null;
  }

  async tile(level: number, index: number, width: number) {
    const first = index * TILE_WIDTH;
    if (hashesAt(level, this.#edge.size) < first + width) return null;
    const hashes = this.#levels[level]?.slice(first, first + width) ?? [];
    return hashes.length === width ? Buffer.concat(hashes) : null;
  }

  tiles(wanted: readonly TileId[]) {
    return Promise.all(wanted.map(({ level, index, width }) => this.tile(level, index, width)));
  }

  async checkpoints(size: number, limit: number) {
    return this.#notes.filter((each) => each.size >= size).slice(0, limit);
  }

  async sizeAt(time: Date) {
    return this.#notes.findLast(({ at }) => at < time)?.size ?? 0;
  }

  #take(): void {
    if (!this.taking) return;
    const fresh = this.#all().filter(({ lane, n }) => !this.#places.has(`${lane}-${n}`));
    if (fresh.length === 0) return;
    for (const { lane, n, leaf, body, columns } of fresh) {
      const index = this.sequenced.length;
      this.#places.set(`${lane}-${n}`, index);
      this.sequenced.push({ index, lane, n, leaf, body, columns });
    }
    const { edge, tiles } = this.#edge.grow(fresh.map(({ leaf }) => leaf));
    this.#edge = edge;
    for (const { level, index, hashes } of tiles) {
      const own = (this.#levels[level] ??= []);
      for (let at = 0; at < hashes.length / HASH; at += 1) {
        own[index * TILE_WIDTH + at] = hashes.slice(at * HASH, (at + 1) * HASH);
      }
    }
    this.#notes.push({ size: edge.size, note: noteOf(edge), at: new Date() });
  }
}
