/** What readers are given of the sequenced log: checkpoints, tiles, entries and proofs, never ahead of its head. */
import { concatBytes } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import { bytesFit } from './columns.ts';
import type { LogHead, LogReader, SequencedEntry, StoredCheckpoint } from './log-ports.ts';
import type { AuditCursor } from './ports.ts';
import { HASH_BYTES, hashAt } from './tree/hashes.ts';
import {
  consistencyProof,
  inclusionProof,
  inclusionTiles,
  verifyInclusion,
} from './tree/proofs.ts';
import { TILE_WIDTH } from './tree/tiles.ts';
import type { BundleId, TileId } from './tree/tiles.ts';
import { formatTlogProof } from './tree/tlog-proof.ts';

/** An entry waits this long for its checkpoint at most, seconds, while all is well. */
const INTEGRATION_S = 2;
/** Longest entry of a bundle: its length is a uint16. */
const MAX_ENTRY = 0xffff;
const NO_ENTRY = new Uint8Array(0);
/** With which no entry begins: "break" of CBOR. */
const MISFILED = Uint8Array.of(0xff);

/** An entry, where it is in its lane, and its leaf hash (32 bytes). */
interface Placed extends AuditCursor {
  readonly leaf: Uint8Array;
}

export class LogReading {
  readonly #reader: LogReader;

  constructor(reader: LogReader) {
    this.#reader = reader;
  }

  head(): Promise<LogHead> {
    return this.#reader.head();
  }

  /** The newest checkpoint. @throws TwofoldError not_found while there is none */
  async checkpoint(): Promise<string> {
    return (await this.#headWithNote()).note;
  }

  /** From the first of at least `size`, the smallest first. */
  checkpoints(size: number, limit: number): Promise<readonly StoredCheckpoint[]> {
    return this.#reader.checkpoints(size, limit);
  }

  /** Entries by index, as `LogReader.entries`: their bytes as they are stored, which prove nothing. */
  entries(from: number, until: number): Promise<readonly SequencedEntry[]> {
    return this.#reader.entries(from, until);
  }

  /**
   * A tile as C2SP tlog-tiles has it. It holds what is stored, also where that was altered: what is wrong
   * with it is for the verifier to find. Of an entry whose row is missing, or longer than any entry, a
   * bundle has an empty one, and one that lists do not find by what it says follows the byte 0xff, so that
   * an export names it and goes on to the others.
   * @throws TwofoldError not_found where the tree has no such tile yet
   */
  async tile(tile: TileId | BundleId): Promise<Buffer> {
    const { level, index, width } = tile;
    if (level === 'entries') return bundleOf(await this.#stored(index, width));
    const hashes = await this.#reader.tile(level, index, width);
    if (hashes !== null) return Buffer.from(hashes.buffer, hashes.byteOffset, hashes.byteLength);
    if (level > 0) throw noTile();
    const rows = await this.#stored(index, width);
    return Buffer.concat(rows.map((row) => row?.leaf ?? new Uint8Array(HASH_BYTES)));
  }

  /**
   * The proof that an entry is in the tree of the newest checkpoint (C2SP tlog-proof, text).
   * @throws TwofoldError not_integrated_yet; integrity_failed when its leaf is not in the tree
   */
  async proof({ lane, n, leaf }: Placed): Promise<string> {
    const [index, { size, root, note }] = await Promise.all([
      this.#reader.indexOf(lane, n),
      this.#reader.head(),
    ]);
    if (index === null || index >= size || note === null) {
      throw new TwofoldError('not_integrated_yet', undefined, { retryAfter: INTEGRATION_S });
    }
    for (const anew of [false, true]) {
      const hashes = await this.#hashes(index, size, anew);
      if (verifyInclusion({ index, leaf, size, root }, hashes)) {
        return formatTlogProof({ index, hashes, checkpoint: note, extra: null });
      }
    }
    throw new TwofoldError('integrity_failed');
  }

  async #hashes(index: number, size: number, anew: boolean): Promise<readonly Uint8Array[]> {
    const wanted = inclusionTiles(index, size);
    const tiles = await this.#reader.tiles(wanted, anew);
    return inclusionProof(index, size, (level, at) => {
      const found = wanted.findIndex((tile) => tile.level === level && tile.index === at);
      return Promise.resolve(tiles[found] ?? null);
    });
  }

  /**
   * Of an entry whose row is not there: where it is.
   * @throws TwofoldError entry_archived
   */
  async requireStored({ lane, n }: AuditCursor): Promise<void> {
    const index = await this.#reader.indexOf(lane, n);
    const { until, place } = await this.#reader.archived();
    if (index === null || index >= until) return;
    const detail = `Entries before ${until} are in the archive of the log: ${place}.`;
    throw new TwofoldError('entry_archived', detail);
  }

  /** The leaf of an entry as the tree has it, also where its row is in cold storage; null before it has an index. */
  async leafAt({ lane, n }: AuditCursor): Promise<Uint8Array | null> {
    const index = await this.#reader.indexOf(lane, n);
    const { size } = await this.#reader.head();
    if (index === null || index >= size) return null;
    const tile = Math.floor(index / TILE_WIDTH);
    const width = Math.min(TILE_WIDTH, size - tile * TILE_WIDTH);
    const hashes = await this.#reader.tile(0, tile, width);
    return hashes === null ? null : hashAt(hashes, index % TILE_WIDTH);
  }

  /**
   * Hashes that show that the tree of `from` entries is the beginning of that of `to`.
   * @throws TwofoldError invalid_value, not_found where the log is not that long yet
   */
  async consistency(from: number, to: number): Promise<readonly Uint8Array[]> {
    if (from > to) throw new TwofoldError('invalid_value', '?from is at most ?to.');
    const { size } = await this.#reader.head();
    if (to > size) throw new TwofoldError('not_found', 'The log has no tree of this size yet.');
    return consistencyProof(from, to, (...tile) => this.#reader.tile(...tile));
  }

  async #headWithNote() {
    const { note } = await this.#reader.head();
    if (note === null) throw new TwofoldError('not_found', 'The log has no checkpoint yet.');
    return { note };
  }

  /** The entries of a tile of level 0; undefined where the row of one is missing, or not the only one. */
  async #stored(index: number, width: number): Promise<readonly (SequencedEntry | undefined)[]> {
    const from = index * TILE_WIDTH;
    const until = from + width;
    const { size } = await this.#reader.head();
    if (until > size) throw noTile();
    const found = await this.#reader.entries(from, until);
    const byIndex = new Map<number, SequencedEntry | undefined>();
    for (const entry of found) {
      // Of two rows that claim one index neither is it: a run was altered.
      byIndex.set(entry.index, byIndex.has(entry.index) ? undefined : entry);
    }
    return Array.from({ length: width }, (_, at) => byIndex.get(from + at));
  }
}

const noTile = () => new TwofoldError('not_found', 'The log has no such tile yet.');

function bundled({ body, columns }: SequencedEntry): Uint8Array {
  if (body.length > MAX_ENTRY) return NO_ENTRY;
  return bytesFit(body, columns) ? body : concatBytes(MISFILED, body).subarray(0, MAX_ENTRY);
}

/** Each entry after its length; an empty one for what cannot be one. */
function bundleOf(entries: readonly (SequencedEntry | undefined)[]): Buffer {
  const parts = entries.flatMap((entry) => {
    const bytes = entry === undefined ? NO_ENTRY : bundled(entry);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(bytes.length);
    return [length, bytes];
  });
  return Buffer.concat(parts);
}
