/**
 * Applies the SQL of `prisma/migrations` as the role that owns the tables.
 *
 * All new files go in one transaction under an advisory lock, each as a whole by the simple query
 * protocol, with its name and SHA-256 recorded: a kill at any point leaves the old schema or the new
 * one, and of several processes one applies and the others find nothing to do. (Prisma's own apply
 * splits a file at every `;` and has no transaction.)
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { TwofoldError } from '../errors.ts';
import { classify, isDiskFull, storeError } from './outcome.ts';
import { createPool } from './pool.ts';
import type { GuardedPool, PoolOptions } from './pool.ts';
import { read } from './transaction.ts';

/** The migrations of this program. */
export const MIGRATIONS = join(import.meta.dirname, '../../prisma/migrations');

/** Advisory lock of migrations; 7411 is the epoch barrier's. */
const LOCK = 7410;
const MIGRATION_MS = 600_000;

export interface MigrateOptions extends Pick<PoolOptions, 'tls' | 'caFile'> {
  /** The database as its owner. */
  readonly url: string;
  /** Version of this program, recorded with each file that it applies. */
  readonly version: string;
  /** Folder of migrations; those of this program by default. */
  readonly dir?: string | undefined;
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
}

const readMigrations = (dir: string): Migration[] =>
  readdirSync(dir)
    .filter((name) => existsSync(join(dir, name, 'migration.sql')))
    .sort()
    .map((name) => {
      const sql = readFileSync(join(dir, name, 'migration.sql'), 'utf8');
      return { name, sql, sha256: createHash('sha256').update(sql).digest('hex') };
    });

const refuse = (detail: string): never => {
  throw new TwofoldError('conflict', detail);
};

/** The files still to apply; refuses a history that is not a beginning of ours. */
const pending = (files: readonly Migration[], applied: readonly Applied[]): Migration[] => {
  const known = new Map(files.map((file) => [file.name, file]));
  for (const { name, sha256, version } of applied) {
    const file = known.get(name);
    if (file === undefined) {
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
  applied_at timestamptz not null default current_timestamp
)`;

const GRANT = `do $$ begin
  if exists (select from pg_catalog.pg_roles where rolname = 'twofold_app') then
    grant select on public.twofold_migration to twofold_app;
  end if;
end $$`;

const SELECT = 'select name, sha256, version from public.twofold_migration order by name';

type Query = (text: string, values?: unknown[]) => Promise<{ rows: Record<string, unknown>[] }>;

const applyAll = async (
  query: Query,
  files: readonly Migration[],
  version: string,
): Promise<string[]> => {
  await query('begin');
  await query(
    "set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0; set local lock_timeout = '60s'",
  );
  await query(`select pg_advisory_xact_lock(${LOCK})`);
  const { rows } = await query(
    "select current_setting('server_version_num')::int as v, pg_current_xact_id()::text as x",
  );
  assertServerVersion(Number(rows[0]?.['v']));
  const transactionId = rows[0]?.['x'];
  await query(TABLE);
  const applied = (await query(SELECT)).rows as unknown as Applied[];
  const todo = pending(files, applied);
  for (const { name, sha256, sql } of todo) {
    await query(sql);
    const now = await query('select pg_current_xact_id()::text as x');
    if (now.rows[0]?.['x'] !== transactionId) {
      throw new Error(`the migration ${name} ends its transaction`);
    }
    await query(
      'insert into public.twofold_migration (name, sha256, version) values ($1, $2, $3)',
      [name, sha256, version],
    );
  }
  await query(GRANT);
  await query('commit');
  return todo.map(({ name }) => name);
};

/**
 * Brings the database to the schema of this program.
 *
 * @returns the names of the files that this call applied.
 * @throws TwofoldError `conflict` when the database was migrated by a newer version, when an applied
 *   file was changed, or when the server is not PostgreSQL 15 to 18; `database_unavailable` or
 *   `storage_full` as everywhere in the store.
 */
export const migrate = async (options: MigrateOptions): Promise<readonly string[]> => {
  const files = readMigrations(options.dir ?? MIGRATIONS);
  const pool = createPool({ ...options, max: 1, statementDeadlineMs: MIGRATION_MS });
  try {
    const client = await pool.connect().catch((error: unknown) => {
      throw storeError(error, classify(error, 'connect'));
    });
    try {
      const query: Query = async (text, values) =>
        client.query<Record<string, unknown>>(text, values ?? []);
      const names = await applyAll(query, files, options.version);
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
 * Makes sure that the database has exactly the schema of this program, for servers that do not
 * migrate themselves.
 *
 * @throws TwofoldError `conflict` when it has an older, newer or changed one,
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
      : (await read(() => pool.query<Record<string, string>>(SELECT))).rows;
  const missing = pending(files, applied as unknown as Applied[]);
  if (missing.length > 0) {
    refuse(
      `The database lacks the migrations ${missing.map(({ name }) => name).join(', ')}; set ` +
        'TWOFOLD_DATABASE_OWNER_URL so that they are applied at start.',
    );
  }
};
