/** Which tables a backup holds, and in which order they can be written again. */
import { TwofoldError } from '../errors.ts';
import type { EntriesKept } from '../backup/ports.ts';
import type { Sql } from './transaction.ts';

/** What belongs to processes, to a token or to moments that are over. Everything else is kept. */
export const LEFT: ReadonlySet<string> = new Set([
  'twofold_migration',
  /** Of this database alone. */
  'backup',
  'restoration',
  /** Processes that are gone, what they led, and what they answered within minutes. */
  'instance',
  'leadership',
  'idempotency',
  'use_flush',
  'limit_bucket',
  /** What instances read of each other's changes. */
  'security_change',
  /** Objects of the token that is left behind. */
  'token_intent',
  /** Offers of an hour, whose private halves are on a token that is left behind. */
  'join_request',
]);

/** Up to where the log has taken each lane: its last run. */
const TAKEN = `left join lateral (select x.from_n + x.count as next, x.first + x.count as size
    from public.log_run x where x.lane = l.id order by x.from_n desc limit 1) r on true`;

/** Lanes with entries that have no index yet: of a change as of an answer they say what was done. */
const IS_WAITING = `not l.drained
  and exists (select from public.entry e where e.lane = l.id and e.n >= coalesce(r.next, 1))`;

/**
 * Leaves behind the last full tile of the log stand in `entry` alone, and the tree goes on from them. Of what has no
 * index yet the sequencer reads the entry before it too.
 */
const TAIL = `select e.* from public.log_head h
  join public.log_run r on r.first + r.count > h.size / 256 * 256
  join public.entry e on e.lane = r.lane and e.n >= r.from_n and e.n < r.from_n + r.count
    and r.first + e.n - r.from_n >= h.size / 256 * 256
  union all
  select e.* from public.log_head h cross join public.lane l ${TAKEN}
  join public.entry e on e.lane = l.id and e.n >= coalesce(r.next, 1) - 1
    and (e.n >= coalesce(r.next, 1) or r.size <= h.size / 256 * 256)
  where ${IS_WAITING}`;

/**
 * Whoever verifies the log compares it with the rows of its lanes. A lane that has nothing without an index ends
 * with its last entry: nothing of it is waited for, and nothing is added. Any other stays as it is: see `all`.
 */
const LANES_TAKEN = `select l.id, l.instance, l.kind, l.opened_at, coalesce(r.next, 1) as next,
    l.closed or not (${IS_WAITING}) as closed, not (${IS_WAITING}) as drained
  from public.lane l ${TAKEN}`;

/** Rows in another form than they stand; a table that is not named here is kept as it is. */
const SELECTED: Readonly<Record<EntriesKept, Readonly<Record<string, string>>>> = {
  tail: {
    entry: TAIL,
    lane: LANES_TAKEN,
    log_checkpoint: `select c.* from public.log_checkpoint c join public.log_head h using (size)`,
    log_cosignature: `select c.* from public.log_cosignature c join public.log_head h using (size)`,
  },
  /**
   * A lane that is open stays so, as that of a killed process: that one is closed which does not end with a last
   * entry would be a fault of it for ever. No instance is left that could add to it.
   */
  all: {},
};

export const selectionOf = (table: string, entries: EntriesKept): string =>
  SELECTED[entries][table] ?? `select t.* from public.${quoted(table)} t`;

export const quoted = (name: string): string => {
  if (!/^[a-z_][a-z0-9_]*$/u.test(name)) {
    throw new TwofoldError('integrity_failed', 'A table or column has a name that is not ours.');
  }
  return `"${name}"`;
};

const TABLES = `select c.oid::text as oid, c.relname as name,
    (select json_agg(a.attname order by a.attnum) from pg_attribute a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
    (select coalesce(json_agg(distinct f.confrelid::text), '[]') from pg_constraint f
      where f.conrelid = c.oid and f.contype = 'f' and f.confrelid <> c.oid) as needs
  from pg_class c
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
  order by c.relname`;

interface TableRow {
  readonly oid: string;
  readonly name: string;
  readonly columns: readonly string[];
  readonly needs: readonly string[];
}

export interface Table {
  readonly name: string;
  readonly columns: readonly string[];
}

/** Every table that is kept, those that others refer to first. */
export const keptTables = async (sql: Sql): Promise<readonly Table[]> => {
  const { rows } = await sql.query<TableRow & Record<string, unknown>>(TABLES);
  const waiting = rows.filter(({ name }) => !LEFT.has(name));
  const kept = new Set(waiting.map(({ oid }) => oid));
  const ordered: TableRow[] = [];
  while (waiting.length > 0) {
    const done = new Set(ordered.map(({ oid }) => oid));
    const at = waiting.findIndex(({ needs }) =>
      needs.every((each) => done.has(each) || !kept.has(each)),
    );
    const [next] = waiting.splice(Math.max(at, 0), 1);
    if (at < 0 || next === undefined) throw new Error('tables refer to each other in a ring');
    ordered.push(next);
  }
  return ordered.map(({ name, columns }) => ({ name, columns }));
};
