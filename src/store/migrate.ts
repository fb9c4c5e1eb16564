/**
 * Applies the SQL of `prisma/migrations` as the role that owns the tables.
 *
 * All new files go in one transaction under an advisory lock, each as a whole by the simple query
 * protocol, with its name and SHA-256 recorded: a kill at any point leaves the old schema or the new
 * one, and of several processes one applies and the others find nothing to do. (Prisma's own apply
 * splits a file at every `;` and has no transaction.)
 *
 * So whatever a file locks stays locked until all are applied, and none reads a table that may be large from
 * end to end (ARCHITECTURE.md, "Versions side by side"): requests would wait as long.
 *
 * Versions run side by side: each file only adds to what the release before it uses, so a program runs
 * also on a database that the next one has migrated. Each row says which file a program has to know for that.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TwofoldError } from '../errors.ts';
import { classify, isDiskFull, storeError } from './outcome.ts';
import { createPool } from './pool.ts';
import type { GuardedPool, PoolOptions } from './pool.ts';
import { read } from './transaction.ts';

/** The migrations of this program. */
export const MIGRATIONS = join(import.meta.dirname, '../../prisma/migrations');

/**
 * The last file of the release before this one: what has that runs beside this program, and on a database
 * that this program has migrated. Moved at a release, with `test/rolling/previous.json`.
 */
export const NEEDED = '0043_schedule_namespaces';

/** Advisory lock of migrations; 7411 is the epoch barrier's. */
const LOCK = 7410;
const MIGRATION_MS = 600_000;
/** Longest wait for a lock, in which requests may wait behind it. */
const LOCK_WAIT_MS = 500;
const LOCK_PAUSE_MS = 1_500;
const LOCK_TRIES_MS = 120_000;
/** SQLSTATE lock_not_available. */
const LOCK_NOT_AVAILABLE = '55P03';

export interface MigrateOptions extends Pick<PoolOptions, 'tls' | 'caFile'> {
  /** The database as its owner. */
  readonly url: string;
  /** Version of this program, recorded with each file that it applies. */
  readonly version: string;
  /** Folder of migrations; those of this program by default. */
  readonly dir?: string | undefined;
  /** The oldest file that a program has to know to run on what this call makes; `NEEDED` unless told. */
  readonly needed?: string | undefined;
  /** Those that are applied; all that are new unless told. */
  readonly only?: ReadonlySet<string> | undefined;
}

interface Migration {
  readonly name: string;
  readonly sql: string;
  readonly sha256: string;
}

interface Applied {
  readonly name: string;
  readonly sha256: string;
  readonly version: string;
  /** The file that a program has to know which does not know this one; null: it has to know this one. */
  readonly needs: string | null;
}

const readMigrations = (dir: string): Migration[] =>
  readdirSync(dir)
    .filter((name) => existsSync(join(dir, name, 'migration.sql')))
    .sort()
    .map((name) => {
      const sql = readFileSync(join(dir, name, 'migration.sql'), 'utf8');
      return { name, sql, sha256: createHash('sha256').update(sql).digest('hex') };
    });

/** Names of the migrations of this program, ascending. */
export const migrationNames = (dir = MIGRATIONS): readonly string[] =>
  readMigrations(dir).map(({ name }) => name);

const refuse = (detail: string): never => {
  throw new TwofoldError('conflict', detail);
};

/** The files still to apply; refuses a history that neither is a beginning of ours nor goes on from it as we may. */
const pending = (files: readonly Migration[], applied: readonly Applied[]): Migration[] => {
  const known = new Map(files.map((file) => [file.name, file]));
  for (const { name, sha256, version, needs } of applied) {
    const file = known.get(name);
    if (file === undefined) {
      if (needs !== null && known.has(needs)) continue;
      refuse(
        `The database was migrated by a newer version, ${version} (${name}); run that version.`,
      );
    } else if (file.sha256 !== sha256) {
      refuse(`The migration ${name} was applied by version ${version} with other content.`);
    }
  }
  const rest = files.filter(({ name }) => applied.every((done) => done.name !== name));
  const last = applied
    .map(({ name }) => name)
    .sort()
    .at(-1);
  for (const { name } of rest) {
    if (last !== undefined && name < last) {
      refuse(`The migration ${name} sorts before ${last}, which is applied.`);
    }
  }
  return rest;
};

const assertServerVersion = (version: number): void => {
  if (version < 150_000 || version >= 190_000) {
    refuse(`PostgreSQL 15 to 18 is needed; this server's version number is ${version}.`);
  }
};

const TABLE = `create table if not exists public.twofold_migration (
  name text primary key,
  sha256 text not null,
  version text not null,
  applied_at timestamptz not null default current_timestamp,
  needs text
)`;
/** Where a version made the table that did not say it. */
const SAYS_NEEDS = 'alter table public.twofold_migration add column if not exists needs text';

const GRANT = `do $$ begin
  if exists (select from pg_catalog.pg_roles where rolname = 'twofold_app') then
    grant select on public.twofold_migration to twofold_app;
  end if;
end $$`;

/** Reads the table of such a version too. */
const SELECT = `select name, sha256, version, to_jsonb(m) ->> 'needs' as needs
  from public.twofold_migration m order by name`;

type Query = (text: string, values?: unknown[]) => Promise<{ rows: Record<string, unknown>[] }>;

/**
 * Repeats a migration that waited too long for a lock: all who come after it wait too, so it goes to the end
 * of the line again while requests are served.
 */
const untilUnlocked = async <T>(query: Query, apply: () => Promise<T>): Promise<T> => {
  const until = performance.now() + LOCK_TRIES_MS;
  for (;;) {
    try {
      return await apply();
    } catch (error) {
      const isLocked = (error as { readonly code?: unknown }).code === LOCK_NOT_AVAILABLE;
      if (!isLocked || performance.now() > until) throw error;
      await query('rollback');
      await sleep(LOCK_PAUSE_MS);
    }
  }
};

const applyAll = async (
  query: Query,
  files: readonly Migration[],
  { version, needed = NEEDED }: MigrateOptions,
): Promise<string[]> => {
  await query('begin');
  await query(
    "set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0; set local lock_timeout = '60s'",
  );
  await query(`select pg_advisory_xact_lock(${LOCK})`);
  await query(`set local lock_timeout = ${String(LOCK_WAIT_MS)}`);
  const { rows } = await query(
    "select current_setting('server_version_num')::int as v, pg_current_xact_id()::text as x",
  );
  assertServerVersion(Number(rows[0]?.['v']));
  const transactionId = rows[0]?.['x'];
  await query(TABLE);
  const applied = (await query(SELECT)).rows as unknown as Applied[];
  const todo = pending(files, applied);
  if (todo.length > 0) await query(SAYS_NEEDS);
  for (const { name, sha256, sql } of todo) {
    await query(sql);
    const now = await query('select pg_current_xact_id()::text as x');
    if (now.rows[0]?.['x'] !== transactionId) {
      throw new Error(`the migration ${name} ends its transaction`);
    }
    await query(
      'insert into public.twofold_migration (name, sha256, version, needs) values ($1, $2, $3, $4)',
      [name, sha256, version, needed],
    );
  }
  await query(GRANT);
  await query('commit');
  return todo.map(({ name }) => name);
};

/**
 * Brings the database to the schema of this program, or as far towards it as `only` says.
 *
 * @returns the names of the files that this call applied.
 * @throws TwofoldError `conflict` when the database was migrated by a newer version for which this one
 *   is too old, when an applied file was changed, or when the server is not PostgreSQL 15 to 18; `database_unavailable` or
 *   `storage_full` as everywhere in the store.
 */
export const migrate = async (options: MigrateOptions): Promise<readonly string[]> => {
  const { dir, only } = options;
  const files = readMigrations(dir ?? MIGRATIONS).filter(({ name }) => only?.has(name) ?? true);
  const pool = createPool({ ...options, max: 1, statementDeadlineMs: MIGRATION_MS });
  try {
    const client = await pool.connect().catch((error: unknown) => {
      throw storeError(error, classify(error, 'connect'));
    });
    try {
      const query: Query = async (text, values) =>
        client.query<Record<string, unknown>>(text, values ?? []);
      const names = await untilUnlocked(query, () => applyAll(query, files, options));
      client.release();
      return names;
    } catch (error) {
      client.release(true);
      throw error;
    }
  } catch (error) {
    const outcome = classify(error, 'connect');
    // Nothing was applied, or all of it: the next call finds out which, so no outcome is unknown.
    const lost = classify(error, 'open') === 'not_applied' || isDiskFull(error);
    throw lost ? storeError(error, outcome) : error;
  } finally {
    await pool.end();
  }
};

/**
 * Makes sure that the database has the schema of this program, or one of a newer version on which it may
 * run, for servers that do not migrate themselves.
 *
 * @throws TwofoldError `conflict` when it has an older or changed one, or a newer one that it cannot use,
 *   `database_unavailable` when it does not answer.
 */
export const assertMigrated = async (
  pool: GuardedPool,
  dir: string = MIGRATIONS,
): Promise<void> => {
  const files = readMigrations(dir);
  const exists = await read(() =>
    pool.query<{ name: string | null }>(
      "select to_regclass('public.twofold_migration')::text as name",
    ),
  );
  const applied =
    exists.rows[0]?.name === null
      ? []
      : (await read(() => pool.query<Record<string, string | null>>(SELECT))).rows;
  const missing = pending(files, applied as unknown as Applied[]);
  if (missing.length > 0) {
    refuse(
      `The database lacks the migrations ${missing.map(({ name }) => name).join(', ')}; set ` +
        'TWOFOLD_DATABASE_OWNER_URL so that they are applied at start.',
    );
  }
};
