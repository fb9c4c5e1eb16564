/**
 * Entries of the log from a standby of the database, so that who reads much of it takes little of the primary.
 *
 * The primary says what the leaves are; an entry of a standby is taken where its bytes have the leaf that the tree has
 * at its index, and else the primary is asked. So a standby that lags, was rewound, is of another database or was
 * altered is of no use, and does no harm. Only entries of whole tiles are asked for: their 256 leaves never change, and
 * are one row. What follows the last of them comes from the primary.
 */
import { columnsFit, knownEntry } from './columns.ts';
import { leafHash } from './entry.ts';
import type { LogReader, SequencedEntry } from './log-ports.ts';
import { HASH_BYTES } from './tree/hashes.ts';
import { TILE_WIDTH } from './tree/tiles.ts';

/** What came of asking: its entries, others than the tree has or too few, no answer. */
export type StandbyAnswer = 'taken' | 'refused' | 'failed';

type Entries = LogReader['entries'];

interface Asked {
  readonly answer: StandbyAnswer;
  readonly found: readonly SequencedEntry[];
  readonly error: unknown;
}

export interface StandbyOptions {
  readonly primary: Pick<LogReader, 'entries' | 'tiles'>;
  /** Once: a standby that does not answer is not waited for again. */
  readonly standby: Entries;
  /** After each; `error` with `failed`. */
  readonly onAnswer?: ((answer: StandbyAnswer, error: unknown) => void) | undefined;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

/** How long a standby that could not answer is left alone. */
const PAUSE_MS = 5_000;
/** How long the last tile, which is not whole, is not looked for. */
const EDGE_MS = 1_000;
/** Fewer are not worth asking for. */
const FEWEST = 16;
/** Entries of a call at most, as of `LogReader.entries`. */
const MOST = 4_096;

export class StandbyEntries {
  readonly answers: Record<StandbyAnswer, number> = { taken: 0, refused: 0, failed: 0 };
  readonly #options: StandbyOptions;
  readonly #now: () => number;
  #pausedUntil = -Infinity;
  /** The first tile that was not whole, and until when that is believed. */
  #edge = { index: 0, until: -Infinity };

  constructor(options: StandbyOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** As `LogReader.entries`, and as true. */
  entries: Entries = async (from, until) => {
    const { primary } = this.#options;
    const end = Math.min(until, from + MOST);
    const leaves = this.#now() < this.#pausedUntil ? [] : await this.#leaves(from, end);
    if (leaves.length < FEWEST) return primary.entries(from, until);
    const { answer, found, error } = await this.#ask(from, leaves);
    if (answer !== 'taken') {
      // What is in cold storage neither has, and that says nothing of the standby.
      const all = await primary.entries(from, until);
      this.#answered(answer, error);
      return all;
    }
    this.#answered(answer, null);
    const rest = from + found.length;
    return rest === end ? found : [...found, ...(await primary.entries(rest, end))];
  };

  /** Of the entries from `from` on that are in whole tiles, and before `end`. */
  async #leaves(from: number, end: number): Promise<readonly Uint8Array[]> {
    const first = Math.floor(from / TILE_WIDTH);
    const edge = this.#now() < this.#edge.until ? this.#edge.index : Infinity;
    const count = Math.min(Math.ceil(end / TILE_WIDTH), edge) - first;
    if (count < 1 || end - from < FEWEST) return [];
    const tiles = await this.#options.primary.tiles(
      Array.from({ length: count }, (_, at) => ({
        level: 0,
        index: first + at,
        width: TILE_WIDTH,
      })),
    );
    const missing = tiles.indexOf(null);
    if (missing >= 0) this.#edge = { index: first + missing, until: this.#now() + EDGE_MS };
    return tiles
      .slice(0, missing < 0 ? count : missing)
      .flatMap((tile) => (tile === null ? [] : hashesOf(tile)))
      .slice(from - first * TILE_WIDTH, end - first * TILE_WIDTH);
  }

  async #ask(from: number, leaves: readonly Uint8Array[]): Promise<Asked> {
    try {
      const found = await this.#options.standby(from, from + leaves.length);
      const sound =
        found.length === leaves.length &&
        found.every((entry, at) => entry.index === from + at && isLeaf(entry, leaves[at]));
      return sound
        ? { answer: 'taken', found, error: null }
        : { answer: 'refused', found: [], error: null };
    } catch (error) {
      return { answer: 'failed', found: [], error };
    }
  }

  #answered(answer: StandbyAnswer, error: unknown): void {
    this.answers[answer] += 1;
    if (answer !== 'taken') this.#pausedUntil = this.#now() + PAUSE_MS;
    this.#options.onAnswer?.(answer, error);
  }
}

const hashesOf = (tile: Uint8Array): readonly Uint8Array[] =>
  Array.from({ length: TILE_WIDTH }, (_, at) =>
    tile.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES),
  );

/** Of a row beside the bytes, what they say too; of bytes of no version that is known nothing is asked. */
function saysTheSame({ body, lane, n, columns }: SequencedEntry): boolean {
  const entry = knownEntry(body);
  return entry === null || (entry.lane === lane && entry.n === n && columnsFit(entry, columns));
}

const isLeaf = (entry: SequencedEntry, expected: Uint8Array | undefined): boolean =>
  expected !== undefined &&
  Buffer.compare(entry.leaf, expected) === 0 &&
  Buffer.compare(leafHash(entry.body), expected) === 0 &&
  saysTheSame(entry);
