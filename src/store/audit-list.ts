/** Pages of audit entries. */
import { TwofoldError } from '../errors.ts';
import type { AuditCursor, AuditQuery, EntryPage, StoredEntry } from '../audit/ports.ts';
import { columnsOf, filterText, indexColumns } from './entry-columns.ts';
import type { IndexRow } from './entry-columns.ts';
import type { entry } from './generated/client.ts';
import type { GuardedPool } from './pool.ts';

/**
 * Candidates that a page looks at: what no index can answer in the order of time is answered in
 * bounded steps, each some milliseconds.
 */
const CANDIDATES = 1000;

const LAST = '9999-12-31T23:59:59.999Z';
const FIRST = '0001-01-01T00:00:00.000Z';

interface Filter {
  readonly column: 'key_id' | 'key_ref' | 'subject' | 'operation' | 'outcome';
  readonly value: string;
  /** What an index begins with: the column, or a hash of it and the namespace. */
  readonly index: 'column' | 'hash' | null;
}

/** Uses of keys are most entries: like successes they are looked for among the newest of all. */
export const UNINDEXED_OPERATIONS: ReadonlySet<string> = new Set([
  'wrap',
  'unwrap',
  'rewrap',
  'data-keys.create',
  'data-keys.create-wrapped',
  'random',
  'encapsulate',
  'decapsulate',
  'sign',
  'verify',
  'sign-parallel',
  'mac',
  'verify-mac',
]);

const operationIndex = (operation: string | null): Filter['index'] =>
  operation === null || UNINDEXED_OPERATIONS.has(operation) ? null : 'column';

const filtersOf = (query: AuditQuery): readonly Filter[] =>
  [
    { column: 'key_id', value: query.keyId, index: 'column' } as const,
    { column: 'key_ref', value: query.keyRef, index: 'hash' } as const,
    { column: 'subject', value: query.subject, index: 'hash' } as const,
    {
      column: 'operation',
      value: query.operation,
      index: operationIndex(query.operation),
    } as const,
    {
      column: 'outcome',
      value: query.outcome,
      index: query.outcome === 'ok' ? null : 'column',
    } as const,
  ].flatMap((filter) =>
    filter.value === null ? [] : [{ ...filter, value: filterText(filter.value) }],
  );

const ordered = (alias: string): string => `${alias}.at desc, ${alias}.lane desc, ${alias}.n desc`;

/** Times are whole milliseconds, so that the one after the cursor's excludes nothing. */
const endOf = ({ until }: AuditQuery, cursor: { readonly at: Date } | null): string => {
  const after = cursor === null ? null : new Date(cursor.at.getTime() + 1);
  const end = after !== null && (until === null || after < until) ? after : until;
  return end?.toISOString() ?? LAST;
};

/** Parameters of every statement here: 1 namespace, 2 from, 3 until, 4 to 6 the cursor. */
const commonOf = (
  query: AuditQuery,
  cursor: { readonly at: Date } | null,
): readonly (string | number)[] => [
  query.namespace,
  query.from?.toISOString() ?? FIRST,
  endOf(query, cursor),
  cursor?.at.toISOString() ?? LAST,
  query.after?.lane ?? 2 ** 31 - 1,
  query.after?.n ?? Number.MAX_SAFE_INTEGER,
];

/** A hash is compared here, and the text itself with the other filters. */
const leadCondition = ({ column, index }: Filter, at: number): string =>
  index === 'hash'
    ? `and hashtextextended(e.${column}, hashtextextended(e.namespace, 0))
        = hashtextextended($${at}::text, hashtextextended($1::text, 0))`
    : `and e.${column} = $${at}`;

/**
 * Entries of the page's order from the cursor on. Parameter 3 is no later than the cursor: there the
 * index begins, which would else pass over all that is newer. By the filter of parameter `at` where
 * it leads.
 */
const candidates = (lead: Filter | null, at: number): string => `public.entry e
    where e.namespace = $1 and e.at >= $2::timestamptz and e.at < $3::timestamptz
      and (e.at, e.lane, e.n) < ($4::timestamptz, $5::integer, $6::bigint)
      ${lead === null ? '' : leadCondition(lead, at)}`;

/** The filter with the fewest candidates, counted no further than a page looks. */
const fewest = async (
  pool: GuardedPool,
  filters: readonly Filter[],
  common: readonly unknown[],
): Promise<Filter | null> => {
  const leads = filters.filter(({ index }) => index !== null);
  if (leads.length < 2) return leads[0] ?? null;
  const counts = leads.map(
    (lead, index) => `(select count(*)::integer from (
      select from ${candidates(lead, index + 7)} limit ${CANDIDATES}) counted)`,
  );
  const { rows } = await pool.query<number[]>({
    text: `select ${counts.join(', ')}`,
    values: [...common, ...leads.map(({ value }) => value)],
    rowMode: 'array',
  });
  const [counted = []] = rows;
  return leads[counted.indexOf(Math.min(...counted))] ?? null;
};

/** Parameter 7 is the number of entries, the filters' follow. */
const pageStatement = (filters: readonly Filter[], lead: Filter | null): string => {
  const from = `${candidates(lead, lead === null ? 0 : filters.indexOf(lead) + 8)}
    order by ${ordered('e')}`;
  const rest = filters.map(({ column }, index) => `c.${column} = $${index + 8}`);
  const looked = `select array[e.lane, e.n] from ${from} offset ${CANDIDATES - 1} limit 1`;
  return `with page as materialized (
      select c.lane, c.n, c.leaf, c.body, ${columnsOf('c')} from (
        select e.* from ${from} limit ${CANDIDATES}) c
      ${rest.length === 0 ? '' : `where ${rest.join(' and ')}`}
      order by ${ordered('c')} limit $7)
    select case when (select count(*) from page) < $7 then (${looked}) end as looked,
      p.lane, p.n, p.leaf, p.body, ${columnsOf('p')}
    from (select) one left join page p on true order by ${ordered('p')}`;
};

export type ShownEntry = Pick<entry, 'leaf' | 'body'> &
  IndexRow & {
    readonly lane: number;
    readonly n: string;
  };

export const storedEntry = ({ lane, n, leaf, body, ...row }: ShownEntry): StoredEntry => ({
  lane,
  n: Number(n),
  leaf: Uint8Array.from(leaf),
  body: Uint8Array.from(body),
  columns: indexColumns(row),
});

const cursorOf = ([lane, n]: readonly string[]): AuditCursor => ({
  lane: Number(lane),
  n: Number(n),
});

const unknownPlace = (): TwofoldError =>
  new TwofoldError('invalid_value', 'The page token names no entry.');

const isPlace = (value: number, most: number): boolean =>
  Number.isSafeInteger(value) && value >= 0 && value <= most;

/** @throws TwofoldError invalid_value, also where the entry's row was edited to be of no time (`infinity`) */
const timeOf = async (
  pool: GuardedPool,
  { lane, n }: AuditCursor,
): Promise<{ readonly at: Date }> => {
  if (!isPlace(lane, 2 ** 31 - 1) || !isPlace(n, Number.MAX_SAFE_INTEGER)) throw unknownPlace();
  const { rows } = await pool.query<{ at: Date | number }>(
    'select at from public.entry where lane = $1 and n = $2',
    [lane, n],
  );
  const at = rows[0]?.at;
  if (at instanceof Date) return { at };
  throw unknownPlace();
};

/**
 * Entries of one namespace, newest first over all lanes.
 * @throws TwofoldError invalid_value when the cursor names no entry
 */
export const listEntries = async (pool: GuardedPool, query: AuditQuery): Promise<EntryPage> => {
  const cursor = query.after === null ? null : await timeOf(pool, query.after);
  const filters = filtersOf(query);
  const common = commonOf({ ...query, namespace: filterText(query.namespace) }, cursor);
  const lead = await fewest(pool, filters, common);
  // One more tells whether another page exists.
  const limit = query.pageSize + 1;
  const { rows } = await pool.query<ShownEntry & { readonly looked: readonly string[] | null }>(
    pageStatement(filters, lead),
    [...common, limit, ...filters.map(({ value }) => value)],
  );
  const found = rows.filter(({ lane }) => (lane as number | null) !== null).map(storedEntry);
  const entries = found.slice(0, query.pageSize);
  const last = entries.at(-1);
  if (found.length > entries.length && last !== undefined) {
    return { entries, next: { lane: last.lane, n: last.n } };
  }
  const looked = rows[0]?.looked ?? null;
  return { entries, next: looked === null ? null : cursorOf(looked) };
};
