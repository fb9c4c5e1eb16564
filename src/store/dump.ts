/** Everything that the database stores, as text: what `doctor secrets` searches. */
import { TwofoldError } from '../errors.ts';
import { sqlState } from './outcome.ts';
import { read } from './transaction.ts';
import type { GuardedPool } from './pool.ts';

/** A piece of a table: rows in PostgreSQL's text form, a line each; `bytea` is hexadecimal. */
export interface DumpPiece {
  readonly table: string;
  readonly text: string;
}

const ROWS = 500;
/** SQLSTATE insufficient_privilege. */
const NOT_PERMITTED = '42501';

const unreadable = (table: string, cause: unknown) =>
  new TwofoldError('forbidden', `The role may not read ${table}: give the owner's URL as well.`, {
    cause,
  });

const TABLES = `
  select quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
  order by 1`;

/**
 * Every row of every table that is not PostgreSQL's own, in the order in which it is stored.
 * Needs a role that may read them all: the owner.
 */
export async function* dumpDatabase(pool: GuardedPool): AsyncGenerator<DumpPiece> {
  const tables = await read(() => pool.query<{ name: string }>(TABLES));
  for (const { name } of tables.rows) yield* dumpTable(pool, name);
}

async function* dumpTable(pool: GuardedPool, table: string): AsyncGenerator<DumpPiece> {
  const page = `select ctid::text as place, t::text as line from ${table} t
    where ctid > $1::tid order by ctid limit ${String(ROWS)}`;
  for (let after: string | undefined = '(0,0)'; after !== undefined;) {
    const from: string = after;
    const { rows } = await read(() =>
      pool.query<{ place: string; line: string }>(page, [from]),
    ).catch((error: unknown) => {
      throw sqlState(error) === NOT_PERMITTED ? unreadable(table, error) : error;
    });
    if (rows.length > 0) yield { table, text: rows.map(({ line }) => line).join('\n') };
    after = rows.length === ROWS ? rows.at(-1)?.place : undefined;
  }
}
