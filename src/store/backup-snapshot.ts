/**
 * The whole database as it stood at one moment, read online: one REPEATABLE READ transaction, and a cursor
 * for each table, so that neither side holds more than a page.
 */
import type pg from 'pg';
import type {
  EntriesKept,
  KeptTable,
  Snapshot,
  SnapshotFacts,
  StoredEscrow,
} from '../backup/ports.ts';
import { AnotherBackup } from '../backup/ports.ts';
import { TwofoldError } from '../errors.ts';
import { keptTables, quoted, selectionOf } from './backup-tables.ts';
import { classify, storeError } from './outcome.ts';
import { createPool } from './pool.ts';
import type { PoolOptions } from './pool.ts';
import type { Sql } from './transaction.ts';

/**
 * Rows at a time: few at first, then as many as make some 100 kB by the length of those before. The largest
 * row is some 100 kB itself; a page of the largest after one of the smallest, which is the worst, is 50 MB.
 */
const PAGE = { first: 20, most: 500, characters: 100_000 } as const;
/** Of one statement: a page, or the opening of a cursor. */
const STATEMENT_MS = 60_000;
/** Advisory lock of whoever takes a backup, held with the snapshot: one at a time. */
export const LOCK = 7413;

const FACTS = `select transaction_timestamp() as at,
    (select json_agg(name order by name) from public.twofold_migration) as migrations,
    coalesce((select max(id) from public.lane), 0) as last_lane,
    h.size, h.root, h.note,
    (select origin from public.log_name) as origin,
    (select coalesce(json_agg(json_build_object('generation', generation, 'installation', installation)
      order by generation), '[]') from public.root_generation
      where state in ('complete', 'in-force', 'retiring')) as generations
  from public.log_head h`;

interface FactsRow {
  readonly at: Date;
  readonly migrations: readonly string[];
  readonly last_lane: number;
  readonly size: string;
  readonly root: Buffer;
  readonly note: string | null;
  readonly origin: string | null;
  readonly generations: SnapshotFacts['generations'];
}

const ESCROWS = `select generation, installation, public_key, point, ciphertext, wrapped, transcript, mac
  from public.root_escrow order by generation, recovery_key`;

export type EscrowRow = Record<
  'public_key' | 'point' | 'ciphertext' | 'wrapped' | 'transcript',
  Buffer
> & {
  readonly generation: number;
  readonly installation: string;
  readonly mac: Buffer | null;
};

const plain = (bytes: Buffer): Uint8Array => Uint8Array.from(bytes);

export const escrowFrom = (row: EscrowRow): StoredEscrow => ({
  generation: row.generation,
  installation: row.installation,
  publicKey: plain(row.public_key),
  point: plain(row.point),
  ciphertext: plain(row.ciphertext),
  wrapped: plain(row.wrapped),
  transcript: plain(row.transcript),
  mac: row.mac === null ? null : plain(row.mac),
});

/**
 * @throws TwofoldError conflict while another backup is being taken; database_unavailable, also at any
 *   later call
 */
export const openSnapshot = async (
  options: PoolOptions,
  entries: EntriesKept,
): Promise<Snapshot> => {
  const pool = createPool({ ...options, max: 1, statementDeadlineMs: STATEMENT_MS });
  let client: pg.PoolClient | undefined;
  const close = async () => {
    // A connection that is given back in order tells nobody of its loss.
    const over = await client?.query('rollback').then(
      () => true,
      () => false,
    );
    client?.release(over !== true);
    client = undefined;
    await pool.end();
  };
  try {
    const held = (client = await pool.connect());
    const sql: Sql = {
      query: (statement, values = []) => held.query(statement as string, [...values]),
    };
    await sql.query('begin isolation level repeatable read read only');
    await sql.query('set local idle_in_transaction_session_timeout = 0');
    // On small integers and times the text of a value is its value; floats come back as they were.
    await sql.query(`set local timezone = 'UTC'`);
    const { rows } = await sql.query<{ held: boolean }>(
      `select pg_try_advisory_xact_lock(${String(LOCK)}) as held`,
    );
    if (rows[0]?.held !== true) {
      throw new AnotherBackup();
    }
    const facts = await factsOf(sql);
    const tables = await keptTables(sql);
    return { facts, tables, rows: (table) => rowsOf(sql, table, entries), close };
  } catch (error) {
    await close();
    throw failed(error);
  }
};

/** Nothing was changed, so that no outcome is unknown. */
const failed = (error: unknown): unknown =>
  TwofoldError.is(error) ? error : storeError(error, classify(error, 'open'));

const factsOf = async (sql: Sql): Promise<SnapshotFacts> => {
  const { rows } = await sql.query<FactsRow & Record<string, unknown>>(FACTS);
  const [row] = rows;
  if (row === undefined) throw new TwofoldError('integrity_failed', 'The log has no head.');
  const escrows = await sql.query<EscrowRow & Record<string, unknown>>(ESCROWS);
  return {
    takenAt: row.at,
    migrations: row.migrations,
    lastLane: row.last_lane,
    log: { size: Number(row.size), root: plain(row.root), note: row.note },
    origin: row.origin,
    generations: row.generations,
    escrows: escrows.rows.map(escrowFrom),
  };
};

const nextPage = (rows: readonly { readonly line: string }[]): number => {
  const characters = rows.reduce((sum, { line }) => sum + line.length, 0);
  const fitting = Math.floor((PAGE.characters * rows.length) / characters);
  return Math.min(Math.max(fitting, 1), PAGE.most);
};

async function* rowsOf(
  sql: Sql,
  { name, columns }: KeptTable,
  entries: EntriesKept,
): AsyncGenerator<readonly string[]> {
  const listed = columns.map((column) => `s.${quoted(column)}`).join(', ');
  const select = `select row_to_json(r)::text as line
    from (select ${listed} from (${selectionOf(name, entries)}) s) r`;
  try {
    await sql.query(`declare backup_rows no scroll cursor for ${select}`);
    let wanted: number = PAGE.first;
    for (;;) {
      const { rows } = await sql.query<{ line: string }>(
        `fetch ${String(wanted)} from backup_rows`,
      );
      if (rows.length > 0) yield rows.map(({ line }) => line);
      if (rows.length < wanted) break;
      wanted = nextPage(rows);
    }
    await sql.query('close backup_rows');
  } catch (error) {
    throw failed(error);
  }
}
