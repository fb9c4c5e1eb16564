/**
 * Writes a backup into an empty, migrated database, as its owner: all rows in one transaction, so that a
 * killed restore leaves an empty database and begins again.
 */
import type pg from 'pg';
import type { EntriesKept, KeptTable, Restoration } from '../backup/ports.ts';
import { TILE_WIDTH } from '../audit/tree/tiles.ts';
import { TwofoldError } from '../errors.ts';
import { keptTables, quoted } from './backup-tables.ts';
import { migrationNames } from './migrate.ts';
import { classify, isDiskFull, storeError } from './outcome.ts';
import { createPool } from './pool.ts';
import type { GuardedPool, PoolOptions } from './pool.ts';
import type { Sql } from './transaction.ts';

const STATEMENT_MS = 300_000;
/** Advisory lock of migrations, which a start takes: none begins while rows are written. */
const LOCK = 7410;
/** Characters of JSON that one statement writes. */
const BATCH = 4_000_000;

/** What stands in a database that was migrated and never used. */
const SEEDED: ReadonlySet<string> = new Set([
  'namespace',
  'security_epoch',
  'log_head',
  'event_horizon',
  'log_archive',
]);

export interface LoadTarget {
  /** Begins a table; its rows follow. */
  table(table: KeptTable): Promise<void>;
  row(json: string): Promise<void>;
}

export type NewRestoration = Omit<Restoration, 'state' | 'restoredAt'> & {
  /** Applied where the backup was taken: all must be here. */
  readonly migrations: readonly string[];
  /** No lane gets an id up to this one. */
  readonly lastLane: number;
  readonly entries: EntriesKept;
};

export interface RoomWanted {
  readonly backup: string;
  readonly generations: readonly number[];
  /** Applied where the backup was taken. */
  readonly migrations: readonly string[];
}

export interface BackupLoader {
  /**
   * Reads alone; a database without our tables has room.
   * @throws TwofoldError conflict where there is another backup or anything else, where a generation of the
   *   backup was retired since it was restored, or where the backup is of a newer version than this one
   */
  requireRoom(wanted: RoomWanted): Promise<void>;
  /**
   * The migrations after which rows are written that were read after these: later ones come after the rows, because
   * they may change rows that are there. Null where the schema is there already, and goes on by all.
   */
  schemaOf(migrations: readonly string[]): Promise<ReadonlySet<string> | null>;
  /** Null in a database that was never restored. */
  restoration(): Promise<Restoration | null>;
  /**
   * Runs `write` in the transaction and commits as `loaded`.
   * @throws TwofoldError conflict where the database is not empty, or of an older schema than the backup
   */
  load(restoration: NewRestoration, write: (target: LoadTarget) => Promise<void>): Promise<void>;
  /** The rows were shown to open. */
  verified(): Promise<void>;
  close(): Promise<void>;
}

export const openLoader = (options: PoolOptions): BackupLoader => {
  const pool = createPool({ ...options, max: 1, statementDeadlineMs: STATEMENT_MS });
  return {
    requireRoom: (wanted) => once(pool, (sql) => requireRoom(sql, wanted)),
    schemaOf: (migrations) => once(pool, (sql) => schemaOf(sql, new Set(migrations))),
    restoration: () => once(pool, restorationOf),
    load: (restoration, write) =>
      once(pool, async (sql) => {
        await sql.query('begin');
        await sql.query('set local idle_in_transaction_session_timeout = 0');
        await sql.query('set local statement_timeout = 0');
        await sql.query(`set local timezone = 'UTC'`);
        await sql.query(`select pg_advisory_xact_lock(${String(LOCK)})`);
        await loadAll(sql, restoration, write);
        await sql.query('commit');
      }),
    verified: () =>
      once(pool, async (sql) => {
        await sql.query(`update public.restoration set state = 'verified' where state = 'loaded'`);
      }),
    close: () => pool.end(),
  };
};

/** One connection, which any error destroys. */
const once = async <T>(pool: GuardedPool, work: (sql: Sql) => Promise<T>): Promise<T> => {
  let client: pg.PoolClient | undefined;
  try {
    const held = (client = await pool.connect());
    const query: Sql['query'] = (statement, values = []) =>
      held.query(statement as string, [...values]);
    const result = await work({ query });
    client.release();
    return result;
  } catch (error) {
    client?.release(true);
    if (TwofoldError.is(error)) throw error;
    if (isDiskFull(error)) throw new TwofoldError('storage_full', undefined, { cause: error });
    throw storeError(error, classify(error, 'open'));
  }
};

interface RestorationRow {
  readonly backup: string;
  readonly state: Restoration['state'];
  readonly taken_at: Date;
  readonly restored_at: Date;
  readonly log_size: string;
  readonly log_root: Buffer;
}

export const restorationOf = async (sql: Sql): Promise<Restoration | null> => {
  const { rows } = await sql.query<RestorationRow & Record<string, unknown>>(
    'select backup, state, taken_at, restored_at, log_size, log_root from public.restoration',
  );
  const [row] = rows;
  if (row === undefined) return null;
  return {
    backup: row.backup,
    state: row.state,
    takenAt: row.taken_at,
    restoredAt: row.restored_at,
    logSize: Number(row.log_size),
    logRoot: Uint8Array.from(row.log_root),
  };
};

const requireRoom = async (
  sql: Sql,
  { backup, generations, migrations }: RoomWanted,
): Promise<void> => {
  // Those that are to be applied here, and those of a newer version that runs beside this one.
  requireMigrations(migrations, [...migrationNames(), ...(await appliedMigrations(sql))]);
  const { rows: tables } = await sql.query<{ made: boolean }>(
    `select to_regclass('public.restoration') is not null as made`,
  );
  const restored = tables[0]?.made === true ? await restorationOf(sql) : null;
  if (restored === null) return requireEmpty(sql, await keptTables(sql));
  if (restored.backup !== backup) throw restoredBefore(restored);
  const { rows } = await sql.query<{ generation: number }>(
    `select generation from public.root_generation where state = 'retired' and generation = any($1)`,
    [[...generations]],
  );
  const [retired] = rows;
  if (retired === undefined) return;
  throw new TwofoldError(
    'conflict',
    `The database was restored of this backup and has retired root generation ${String(retired.generation)} since.`,
  );
};

const restoredBefore = ({ backup }: Restoration) =>
  new TwofoldError('conflict', `The database was restored before, of ${backup}.`);

const loadAll = async (
  sql: Sql,
  restoration: NewRestoration,
  write: (target: LoadTarget) => Promise<void>,
): Promise<void> => {
  const { backup, takenAt, logSize, logRoot, lastLane, migrations, entries } = restoration;
  requireMigrations(migrations, await appliedMigrations(sql));
  const tables = await keptTables(sql);
  const restored = await restorationOf(sql);
  if (restored !== null) throw restoredBefore(restored);
  await requireEmpty(sql, tables);
  // They keep sums that the backup holds, and refuse what only a restore does. `entry` has none for rows
  // that come, and its partitions would have to be named.
  const triggered = tables.filter(({ name }) => name !== 'entry');
  for (const { name } of triggered) {
    await sql.query(`alter table public.${quoted(name)} disable trigger user`);
  }
  for (const { name } of [...tables].reverse()) {
    if (SEEDED.has(name)) await sql.query(`delete from public.${quoted(name)}`);
  }
  await makePartitions(sql, lastLane);
  const target = new Batches(sql, new Map(tables.map((table) => [table.name, table])));
  await write(target);
  await target.flush();
  // One that was open may have been executed since. Only the root makes a row that says it ended, so it goes.
  await sql.query(`delete from public.approval where state in ('pending', 'approved')`);
  await moveIdentities(sql, lastLane);
  if (entries === 'all') await reopenLanes(sql);
  const hasArchive = tables.some(({ name }) => name === 'log_archive');
  if (entries === 'tail' && hasArchive) await noteLeft(sql, restoration);
  for (const { name } of triggered) {
    await sql.query(`alter table public.${quoted(name)} enable trigger user`);
  }
  await sql.query(
    `insert into public.restoration (backup, state, taken_at, restored_at, log_size, log_root)
      values ($1, 'loaded', $2, clock_timestamp(), $3, $4)`,
    [backup, takenAt, logSize, Buffer.from(logRoot)],
  );
};

/** `"last": true` in an entry's detail, as `audit/entry.ts` encodes it; no text holds the byte f5. */
const SAYS_LAST = "'\\x646c617374f5'::bytea";

/** Backups of versions before have every lane as closed; of one that was not, the last entry does not say so. */
const reopenLanes = async (sql: Sql): Promise<void> => {
  await sql.query(`update public.lane l set closed = false
    where l.closed and not l.drained and exists (select from (
        select body from public.entry e where e.lane = l.id order by e.n desc limit 1) e
      where position(${SAYS_LAST} in e.body) = 0)`);
};

/**
 * Entries that the backup has not got are in exports alone, as those in cold storage: else readers would take
 * their absence for damage, and sinks would wait for them for ever.
 */
const noteLeft = async (sql: Sql, { backup, logSize }: NewRestoration): Promise<void> => {
  const from = logSize - (logSize % TILE_WIDTH);
  await sql.query(
    `update public.log_archive set until = $1, removed = $1,
      place = concat_ws('; ', nullif(place, ''), $2::text) where removed < $1`,
    [from, `exports from before the restore of the backup ${backup}`],
  );
  await sql.query('update public.audit_sink set next = $1 where next < $1', [from]);
};

const appliedMigrations = async (sql: Sql): Promise<readonly string[]> => {
  const { rows: tables } = await sql.query<{ made: boolean }>(
    `select to_regclass('public.twofold_migration') is not null as made`,
  );
  if (tables[0]?.made !== true) return [];
  const { rows } = await sql.query<{ name: string }>('select name from public.twofold_migration');
  return rows.map(({ name }) => name);
};

const schemaOf = async (
  sql: Sql,
  migrations: ReadonlySet<string>,
): Promise<ReadonlySet<string> | null> => {
  const applied = await appliedMigrations(sql);
  return applied.every((name) => migrations.has(name)) ? migrations : null;
};

const requireMigrations = (wanted: readonly string[], here: readonly string[]): void => {
  const known = new Set(here);
  const missing = wanted.find((name) => !known.has(name));
  if (missing === undefined) return;
  throw new TwofoldError(
    'conflict',
    `The backup is of a newer version: the migration ${missing} is not known here. Restore it with the ` +
      'version that took it, or a later one.',
  );
};

const requireEmpty = async (sql: Sql, tables: readonly KeptTable[]): Promise<void> => {
  for (const { name } of tables) {
    if (SEEDED.has(name)) continue;
    const { rows } = await sql.query(`select 1 from public.${quoted(name)} limit 1`);
    if (rows.length === 0) continue;
    throw new TwofoldError(
      'conflict',
      `The database is not empty (${name}): a backup is restored into one that no service has used.`,
    );
  }
};

const makePartitions = async (sql: Sql, lastLane: number): Promise<void> => {
  await sql.query(
    'select public.make_entry_partition(l) from generate_series(0, $1::integer, 1024) l',
    [lastLane],
  );
};

const IDENTITIES = `select table_name as table, column_name as column
  from information_schema.columns
  where table_schema = 'public'
    and pg_get_serial_sequence('public.' || quote_ident(table_name), column_name) is not null`;

const moveIdentities = async (sql: Sql, lastLane: number): Promise<void> => {
  const { rows } = await sql.query<{ table: string; column: string }>(IDENTITIES);
  for (const { table, column } of rows) {
    const least = table === 'lane' ? lastLane : 0;
    await sql.query(
      `select setval(pg_get_serial_sequence($1, $2), greatest(max(t.id), 1), max(t.id) > 0)
        from (select coalesce(max(${quoted(column)}), 0)::bigint as id from public.${quoted(table)}
          union all select $3::bigint) t`,
      [`public.${table}`, column, least],
    );
  }
};

/** Rows of one table, some megabytes a statement. */
class Batches implements LoadTarget {
  readonly #sql: Sql;
  readonly #tables: ReadonlyMap<string, KeptTable>;
  #insert = '';
  #rows: string[] = [];
  #characters = 0;

  constructor(sql: Sql, tables: ReadonlyMap<string, KeptTable>) {
    this.#sql = sql;
    this.#tables = tables;
  }

  async table({ name, columns }: KeptTable): Promise<void> {
    await this.flush();
    const here = this.#tables.get(name);
    const unknown = columns.find((column) => here?.columns.includes(column) !== true);
    if (here === undefined || unknown !== undefined) {
      const what = here === undefined ? name : `${name}.${unknown ?? ''}`;
      throw new TwofoldError('conflict', `The backup has ${what}, which this version does not.`);
    }
    const listed = columns.map(quoted).join(', ');
    this.#insert = `insert into public.${quoted(name)} (${listed}) overriding system value
      select ${listed} from json_populate_recordset(null::public.${quoted(name)}, $1::json)`;
  }

  async row(json: string): Promise<void> {
    this.#rows.push(json);
    this.#characters += json.length;
    if (this.#characters >= BATCH) await this.flush();
  }

  async flush(): Promise<void> {
    const rows = this.#rows;
    if (rows.length === 0) return;
    this.#rows = [];
    this.#characters = 0;
    await this.#sql.query(this.#insert, [`[${rows.join(',')}]`]);
  }
}
