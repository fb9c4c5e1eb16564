/**
 * Entries of the log from a standby of the database, so that who reads much of it takes little of the primary.
 *
 * The primary says what the leaves are; an entry of a standby is taken where its bytes have the leaf that the tree has
 * at its index, and else the primary is asked. So a standby that lags, was rewound, is of another database or was
 * altered is of no use, and does no harm. Only tiles of 256 leaves are asked for: they never change, and their leaves
 * are one row. What follows the last of them comes from the primary.
 */
import { leafHash } from './entry.ts';
import type { LogReader, SequencedEntry } from './log-ports.ts';
import { HASH_BYTES } from './tree/hashes.ts';
import { TILE_WIDTH } from './tree/tiles.ts';

/** What came of asking: its entries, others than the tree has or too few, no answer. */
export type StandbyAnswer = 'taken' | 'refused' | 'failed';

type Entries = LogReader['entries'];

export interface StandbyOptions {
  readonly primary: Pick<LogReader, 'entries' | 'tile'>;
  /** Once: a standby that does not answer is not waited for again. */
  readonly standby: Entries;
  /** After each; `error` with `failed`. */
  readonly onAnswer?: ((answer: StandbyAnswer, error: unknown) => void) | undefined;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

/** How long a standby that could not answer is left alone. */
const PAUSE_MS = 5_000;
/** Fewer are not worth asking for. */
const FEWEST = 16;
/** Entries of a call at most, as of `LogReader.entries`. */
const MOST = 4_096;
/** Tiles that are remembered: whoever goes through the log reads each in several calls. */
const TILES = 32;

export class StandbyEntries {
  readonly answers: Record<StandbyAnswer, number> = { taken: 0, refused: 0, failed: 0 };
  readonly #options: StandbyOptions;
  readonly #now: () => number;
  readonly #leaves = new Map<number, Uint8Array>();
  #until = -Infinity;

  constructor(options: StandbyOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** As `LogReader.entries`, and as true. */
  entries: Entries = async (from, until) => {
    const { primary } = this.#options;
    const whole = Math.floor(Math.min(until, from + MOST) / TILE_WIDTH) * TILE_WIDTH;
    const taken = whole - from < FEWEST ? null : await this.#taken(from, whole);
    if (taken === null) return primary.entries(from, until);
    if (until <= whole || whole - from === MOST) return taken;
    const rest = await primary.entries(whole, Math.min(until, from + MOST));
    return [...taken, ...rest];
  };

  /** Those of whole tiles; null where the standby has not got them all. */
  async #taken(from: number, until: number): Promise<readonly SequencedEntry[] | null> {
    if (this.#now() < this.#until) return null;
    const [found, leaves] = await Promise.all([
      this.#options.standby(from, until).catch((error: unknown) => ({ error })),
      this.#leavesOf(from, until),
    ]);
    // A tree without these tiles says nothing about the standby.
    if (leaves === null) return null;
    if ('error' in found) return this.#answered('failed', found.error);
    const sound =
      found.length === until - from &&
      found.every((entry, at) => entry.index === from + at && isLeaf(entry, leaves[at]));
    if (!sound) return this.#answered('refused', null);
    this.#answered('taken', null);
    return found;
  }

  #answered(answer: StandbyAnswer, error: unknown): null {
    this.answers[answer] += 1;
    if (answer !== 'taken') this.#until = this.#now() + PAUSE_MS;
    this.#options.onAnswer?.(answer, error);
    return null;
  }

  /** One hash an entry; null where the tree has not so many whole tiles. */
  async #leavesOf(from: number, until: number): Promise<readonly Uint8Array[] | null> {
    const first = Math.floor(from / TILE_WIDTH);
    const tiles = await Promise.all(
      Array.from({ length: until / TILE_WIDTH - first }, (_, at) => this.#tile(first + at)),
    );
    const leaves = tiles.flatMap((tile) =>
      tile === null
        ? []
        : Array.from({ length: TILE_WIDTH }, (_, at) =>
            tile.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES),
          ),
    );
    if (leaves.length !== tiles.length * TILE_WIDTH) return null;
    return leaves.slice(from - first * TILE_WIDTH);
  }

  async #tile(index: number): Promise<Uint8Array | null> {
    const known = this.#leaves.get(index);
    if (known !== undefined) return known;
    const tile = await this.#options.primary.tile(0, index, TILE_WIDTH);
    if (tile === null) return null;
    this.#leaves.set(index, tile);
    for (const oldest of this.#leaves.keys()) {
      if (this.#leaves.size <= TILES) break;
      this.#leaves.delete(oldest);
    }
    return tile;
  }
}

const isLeaf = ({ body, leaf }: SequencedEntry, expected: Uint8Array | undefined): boolean =>
  expected !== undefined &&
  Buffer.compare(leaf, expected) === 0 &&
  Buffer.compare(leafHash(body), expected) === 0;
