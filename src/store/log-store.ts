/**
 * What readers of the sequenced log see. Plain reads but for the head and what is asked for as certain: a checkpoint
 * is signed and an entry has its leaf in the tree, so that what an old primary answers is true too, only perhaps not
 * the newest.
 */
import type { Archived } from '../audit/archive-ports.ts';
import type { LogHead, LogReader, SequencedEntry, StoredCheckpoint } from '../audit/log-ports.ts';
import { HASH_BYTES } from '../audit/tree/hashes.ts';
import { TILE_WIDTH } from '../audit/tree/tiles.ts';
import type { TileId } from '../audit/tree/tiles.ts';
import { TwofoldError } from '../errors.ts';
import { columnsOf, indexColumns } from './entry-columns.ts';
import type { IndexRow } from './entry-columns.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGates } from './read-gate.ts';
import { TileCache } from './tile-cache.ts';
import { COMMITTED, committedRead, committing, read } from './transaction.ts';

const MOST_ENTRIES = 4_096;
const MOST_CHECKPOINTS = 1_000;

const HEAD = committing({
  name: 'log_head',
  text: `select h.size, h.root, h.note from ${COMMITTED} cross join public.log_head h`,
});

interface HeadRow {
  readonly size: string;
  readonly root: Buffer;
  readonly note: string | null;
}

/**
 * Runs from the one that holds $1 on; a run's first index is its key. A lateral query with a limit is
 * answered by the index of its condition, whatever the planner thinks of the tables' sizes.
 */
const INDEXED = `public.log_run r cross join lateral (
    select e.n, e.leaf, e.body, ${columnsOf('e')}, r.first + e.n - r.from_n as index
    from public.entry e where e.lane = r.lane and e.n >= r.from_n + greatest(0, $1::bigint - r.first)
      and e.n < r.from_n + least(r.count, $2::bigint - r.first)
    order by e.n limit ${MOST_ENTRIES}) x
  where r.first < $2 and r.first >= coalesce(
    (select o.first from public.log_run o where o.first <= $1 order by o.first desc limit 1), 0)
  order by x.index`;
const ENTRIES = {
  name: 'log_entries',
  text: `select x.index, r.lane, x.n, x.leaf, x.body, ${columnsOf('x')} from ${INDEXED}`,
};
const sequenced = (row: EntryRow): SequencedEntry => ({
  index: Number(row.index),
  lane: row.lane,
  n: Number(row.n),
  leaf: Uint8Array.from(row.leaf),
  body: Uint8Array.from(row.body),
  columns: indexColumns(row),
});

const LEAVES = { name: 'log_leaves', text: `select x.leaf from ${INDEXED}` };
const CERTAIN_LEAVES = committing({
  name: 'log_leaves_certain',
  text: `select v.leaf from ${COMMITTED}
    left join (select x.index, x.leaf from ${INDEXED}) v on true order by v.index`,
});

type EntryRow = Record<'index' | 'n', string> &
  IndexRow & {
    readonly lane: number;
    readonly leaf: Buffer;
    readonly body: Buffer;
  };

const INDEX_OF = {
  name: 'log_index_of',
  text: `select r.first + $2::bigint - r.from_n as index from (
      select * from public.log_run where lane = $1 and from_n <= $2 order by from_n desc limit 1) r
    where $2 < r.from_n + r.count`,
};

const TILE = {
  name: 'log_tile',
  text: `select substring(hashes from 1 for $3) as hashes from public.log_tile
    where level = $1 and index = $2 and octet_length(hashes) >= $3`,
};
/** By an outer join, since a plan that begins with no tile would commit no message, as an old primary can. */
const CERTAIN_TILE = committing({
  name: 'log_tile_certain',
  text: `select v.hashes from ${COMMITTED} left join (${TILE.text}) v on true`,
});

interface TileRow {
  readonly hashes: Buffer | null;
}

/** Each by its key, whatever the planner thinks of how many there are. */
const TILES = {
  name: 'log_tiles',
  text: `select w.level, w.index, t.hashes
    from unnest($1::integer[], $2::bigint[], $3::integer[]) w(level, index, bytes)
    cross join lateral (select substring(l.hashes from 1 for w.bytes) as hashes
      from public.log_tile l where l.level = w.level and l.index = w.index
        and octet_length(l.hashes) >= w.bytes limit 1) t`,
};

/** Bytes of tiles above the leaves, which most proofs share: those of over ten million entries. */
const UPPER_BYTES = 2 * 1024 * 1024;
/** Of tiles of leaves, of which those of what was written last are asked for most. */
const LOWER_BYTES = 4 * 1024 * 1024;

const ARCHIVED = {
  name: 'log_archived',
  text: 'select until, removed, place from public.log_archive',
};

const CHECKPOINTS = {
  name: 'log_checkpoints',
  text: `select size, note, at from public.log_checkpoint where size >= $1 order by size limit $2`,
};

/** By the index of times; it may be one of an old primary, which has fewer entries. */
const SIZE_AT = {
  name: 'log_size_at',
  text: 'select size from public.log_checkpoint where at < $1 order by at desc limit 1',
};

export const createLogStore = (pool: GuardedPool, { lookups, searches }: ReadGates): LogReader => {
  const upper = new TileCache(UPPER_BYTES);
  // For proofs alone, which are verified: an export is to show what is stored.
  const lower = new TileCache(LOWER_BYTES);
  const cacheOf = (level: number) => (level > 0 ? upper : lower);
  const rowsOf = async <Row extends object>(
    statement: { readonly name: string; readonly text: string },
    values: readonly unknown[],
    gate = lookups,
  ): Promise<readonly Row[]> =>
    gate.run(async () => {
      const found = () => pool.query<Row>({ ...statement, values: [...values] });
      const { rows } = await read(found).catch(refuse);
      return rows;
    });

  /** The leaves of a tile of level 0: of a full one in a row, else those of the entries. */
  const leaves = async (
    index: number,
    width: number,
    certain = false,
  ): Promise<Uint8Array | null> => {
    const range = [index * TILE_WIDTH, index * TILE_WIDTH + width];
    const rows = certain
      ? await committedRead<{ leaf: Buffer | null }>(pool, CERTAIN_LEAVES, range).catch(refuse)
      : await rowsOf<{ leaf: Buffer | null }>(LEAVES, range);
    const found = rows.map(({ leaf }) => leaf).filter((leaf) => leaf !== null);
    return found.length === width ? joined(found) : null;
  };

  /** Of those that are stored, by level and index. */
  const storedTiles = async (wanted: readonly TileId[]): Promise<Map<string, Uint8Array>> => {
    if (wanted.length === 0) return new Map();
    const rows = await rowsOf<{ level: number; index: string; hashes: Buffer }>(TILES, [
      wanted.map(({ level }) => level),
      wanted.map(({ index }) => index),
      wanted.map(({ width }) => width * HASH_BYTES),
    ]);
    return new Map(rows.map((row) => [`${row.level}/${row.index}`, Uint8Array.from(row.hashes)]));
  };

  /** What memory does not have of them, in one statement, and the last leaves beside it. */
  const readTiles = async (wanted: readonly TileId[]): Promise<readonly (Uint8Array | null)[]> => {
    const isEdge = ({ level, width }: TileId) => level === 0 && width < TILE_WIDTH;
    const [stored, edges] = await Promise.all([
      storedTiles(wanted.filter((tile) => !isEdge(tile))),
      Promise.all(
        wanted.map(async (tile) => (isEdge(tile) ? leaves(tile.index, tile.width) : null)),
      ),
    ]);
    return wanted.map(
      ({ level, index }, at) => stored.get(`${level}/${index}`) ?? edges[at] ?? null,
    );
  };

  const archived = async (): Promise<Archived> => {
    const [row] = await rowsOf<Record<'until' | 'removed' | 'place', string>>(ARCHIVED, []);
    if (row === undefined) return refuse(new Error('the log has no row of its archive'));
    return { until: Number(row.until), removed: Number(row.removed), place: row.place };
  };

  /** Rows that are not there may be in cold storage. */
  const requireStored = async (from: number): Promise<void> => {
    const { until, removed, place } = await archived();
    if (from < removed) throw new TwofoldError('entry_archived', archivedDetail(until, place));
  };

  return {
    archived,

    head: async (): Promise<LogHead> => {
      const [row] = await committedRead<HeadRow>(pool, HEAD, []).catch(refuse);
      if (row === undefined) return refuse(new Error('the log has no head'));
      return { size: Number(row.size), root: Uint8Array.from(row.root), note: row.note };
    },

    entries: async (from, until) => {
      const end = Math.min(until, from + MOST_ENTRIES);
      const rows = await rowsOf<EntryRow>(ENTRIES, [from, end], searches);
      if (rows.length < end - from) await requireStored(from);
      return rows.map(sequenced);
    },

    indexOf: async (lane, n) => {
      const [row] = await rowsOf<{ index: string }>(INDEX_OF, [lane, n]);
      return row === undefined ? null : Number(row.index);
    },

    tile: async (level, index, width, certain = false) => {
      // What is stored, for who looks whether it is right; proofs are checked, and may remember.
      const values = [level, index, width * HASH_BYTES];
      const [row] = certain
        ? await committedRead<TileRow & object>(pool, CERTAIN_TILE, values).catch(refuse)
        : await rowsOf<TileRow>(TILE, values);
      const hashes = row?.hashes ?? null;
      if (hashes === null) return level === 0 ? leaves(index, width, certain) : null;
      return Uint8Array.from(hashes);
    },

    tiles: async (wanted, anew = false) => {
      if (anew) for (const { level, index } of wanted) cacheOf(level).forget(level, index);
      const kept = wanted.map(({ level, index, width }) =>
        cacheOf(level).get(level, index, width * HASH_BYTES),
      );
      const missing = wanted.filter((_, at) => kept[at] === null);
      const read = await readTiles(missing);
      missing.forEach(({ level, index }, at) => {
        const hashes = read[at] ?? null;
        if (hashes !== null) cacheOf(level).set(level, index, hashes);
      });
      return wanted.map((tile, at) => kept[at] ?? read[missing.indexOf(tile)] ?? null);
    },

    checkpoints: async (size, limit) => {
      const most = Math.min(limit, MOST_CHECKPOINTS);
      const rows = await rowsOf<{ size: string; note: string; at: Date }>(CHECKPOINTS, [
        size,
        most,
      ]);
      return rows.map((row): StoredCheckpoint => ({ ...row, size: Number(row.size) }));
    },

    sizeAt: async (time) => {
      const [row] = await rowsOf<{ size: string }>(SIZE_AT, [time]);
      return Number(row?.size ?? 0);
    },
  };
};

/** As `LogReader.entries`, of a standby: asked once, and what it lacks is not explained. Rejects with pg's error. */
export const standbyEntries =
  (pool: GuardedPool): LogReader['entries'] =>
  async (from, until) => {
    const values = [from, Math.min(until, from + MOST_ENTRIES)];
    const { rows } = await pool.query<EntryRow>({ ...ENTRIES, values });
    return rows.map(sequenced);
  };

const archivedDetail = (until: number, place: string): string =>
  `Entries before ${String(until)} are in the archive of the log: ${place}.`;

const joined = (hashes: readonly Uint8Array[]): Uint8Array =>
  Uint8Array.from(Buffer.concat(hashes));
