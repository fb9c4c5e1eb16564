/** Pages of keys. */
import type { KeyPage, KeyQuery, ListedKey } from '../keyring/ports.ts';
import { KEY_COLUMNS, keyFromRow } from './key-rows.ts';
import type { KeyRow } from './key-rows.ts';
import type { GuardedPool } from './pool.ts';
import { named } from './rows.ts';
import { VERSION_COLUMNS, versionFromRow } from './version-rows.ts';
import type { VersionRow } from './version-rows.ts';

/**
 * Candidates that a page of several filters looks at: what no index can answer in the order of names
 * is answered in bounded steps, each some milliseconds.
 */
const CANDIDATES = 1000;

const columns = (alias: string, names: readonly string[]): string =>
  names.map((name) => `${alias}.${name}`).join(', ');

/** Parameters: 1 namespace, 2 prefix, 3 after, 4 below, 5 keys, 6 suite. */
const range = (alias: string): string => `${alias}.namespace = $1 and ${alias}.name >= $2
    and ${alias}.name > $3 and ${alias}.name < $4`;

/**
 * The page's keys with the versions that are shown, and how far it looked where that is short of keys.
 * One statement and so one snapshot. Always a row; where no key is found its columns are null.
 * A lateral query with a limit is answered by the index of its condition, row by row, whatever the
 * planner thinks of the tables' sizes.
 */
const pageOf = (page: string, lookedTo: string): string => `${page}
  select case when (select count(*) from page) < $5 then (${lookedTo}) end,
    ${columns('p', KEY_COLUMNS)}, ${columns('v', VERSION_COLUMNS)}
  from (select) one left join page p on true
  left join lateral (
    select * from public.key_version
    where key_id = p.id and version = any (array[p.primary_version, (
      select max(version) from public.key_version
      where key_id = p.id and suite = $6 and state <> 'destroyed')])
    order by version limit 2) v on true
  order by p.name, v.version`;

const EVERY_KEY = pageOf(
  `with page as materialized (
    select * from public.key k where ${range('k')} order by k.name limit $5)`,
  'null::text',
);

/** Further parameters: 7 facets, 8 candidates, 9 labels, 10 state. */
const OF_FACET = `public.key_facet f where ${range('f')} and f.facet = (select facet from fewest)
    order by f.name`;

const BY_FACETS = pageOf(
  `with fewest as materialized (
    select w.facet from unnest($7::text[]) w(facet) cross join lateral (
      select count(*) from (
        select from public.key_facet f where ${range('f')} and f.facet = w.facet limit $8) counted
    ) matching(keys)
    order by matching.keys, w.facet limit 1),
  page as materialized (
    select k.* from (select f.name from ${OF_FACET} limit $8) candidate
    cross join lateral (
      select * from public.key where namespace = $1 and name = candidate.name limit 1) k
    where k.labels @> $9::jsonb
      and ($10::text is null or $10 = case when k.destroyed_at is not null then 'destroyed'
        when k.destroy_at is not null then 'pending-destruction'
        when k.suspended_at is not null then 'suspended' else 'enabled' end)
      and ($6::integer is null or exists (
        select from public.key_version
        where key_id = k.id and suite = $6 and state <> 'destroyed' offset 0))
    order by candidate.name limit $5)`,
  `select f.name from ${OF_FACET} offset $8 - 1 limit 1`,
);

/** As `key_facets` of the database writes them. */
const facetsOf = ({ labels, state, suite }: KeyQuery): readonly string[] => [
  ...Object.entries(labels).map(([label, value]) => `label:${label}=${value}`),
  ...(state === null ? [] : [`state:${state}`]),
  ...(suite === null ? [] : [`suite:${suite}`]),
];

/** Above every name that begins with `prefix`; a range, since `_` and `%` have a meaning in LIKE. */
const above = (prefix: string): string => `${prefix}\u{10ffff}`;

/**
 * Keys in byte order of their names (the column's collation is "C"). `suite` matches keys of which any
 * version that is not destroyed has the suite.
 */
export const listKeys = async (pool: GuardedPool, query: KeyQuery): Promise<KeyPage> => {
  const prefix = query.namePrefix ?? '';
  // One more tells whether another page exists.
  const limit = query.pageSize + 1;
  const facets = facetsOf(query);
  const common = [
    query.namespace,
    prefix,
    query.afterName ?? '',
    above(prefix),
    limit,
    query.suite,
  ];
  const candidates = facets.length === 1 ? limit : Math.max(limit, CANDIDATES);
  const { rows } = await pool.query<unknown[]>(
    facets.length === 0
      ? { text: EVERY_KEY, values: common, rowMode: 'array' }
      : {
          text: BY_FACETS,
          values: [...common, facets, candidates, JSON.stringify(query.labels), query.state],
          rowMode: 'array',
        },
  );
  const found = listedKeys(rows.map((row) => row.slice(1)));
  const keys = found.slice(0, query.pageSize);
  const last = keys.at(-1)?.key.value.name ?? null;
  const lookedTo = (rows[0]?.[0] ?? null) as string | null;
  return { keys, next: found.length > keys.length ? last : lookedTo };
};

/** Rows of one key stand together. */
const listedKeys = (rows: readonly (readonly unknown[])[]): readonly ListedKey[] => {
  const keys: (ListedKey & { readonly versions: ListedKey['versions'][number][] })[] = [];
  for (const row of rows) {
    const key = named<KeyRow>(KEY_COLUMNS, row);
    if ((key.id as string | null) === null) continue;
    const version = named<VersionRow>(VERSION_COLUMNS, row.slice(KEY_COLUMNS.length));
    if (keys.at(-1)?.key.value.id !== key.id) keys.push({ key: keyFromRow(key), versions: [] });
    if ((version.key_id as string | null) === null) continue;
    keys.at(-1)?.versions.push(versionFromRow(version));
  }
  return keys;
};
