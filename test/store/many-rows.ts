/**
 * Very many keys and audit entries, by SQL alone. What the store reads of them is well formed; MACs and
 * bodies are not what the keyring and the audit log would accept: whoever needs that writes them to the
 * rows that are read (`bench/lists.ts`).
 */
import type pg from 'pg';

/**
 * Keys `i` of `keys` in order of their names, all copies of `templates`' keys and first versions:
 *
 * | filter | matches |
 * |---|---|
 * | label env | prod 90 %, staging 9 %, dev 1 %, all over the names |
 * | label owner | a thousandth each |
 * | label half | `a` or `b` by turns; kind `x` is at every `b`, so that a and x together match none |
 * | label last | the last hundred names |
 * | state | a ten-thousandth suspended; the last five hundred names destroyed |
 * | suite | the first template's 90 %, the second's 10 %, the third's the last hundred names |
 */
export interface ManyKeys {
  readonly namespace: string;
  readonly keys: number;
  /** Ids of three keys. */
  readonly templates: readonly [string, string, string];
}

/** Of key `i`, so that names are in order of numbers. */
export const nameOfKey = (i: number): string =>
  `svc-${String(Math.floor(i / 1000)).padStart(4, '0')}.key-${String(i).padStart(7, '0')}`;

const NAME = `format('svc-%s.key-%s', lpad((i / 1000)::text, 4, '0'), lpad(i::text, 7, '0'))`;

const columnsOf = async (owner: pg.Client, table: string): Promise<readonly string[]> => {
  const { rows } = await owner.query<{ name: string }>(
    `select attname as name from pg_attribute
     where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum`,
    [`public.${table}`],
  );
  return rows.map(({ name }) => name);
};

/** Columns of a copy: `changed` by name, the others as in `source`. */
const copied = (
  columns: readonly string[],
  source: string,
  changed: Readonly<Record<string, string>>,
): string => columns.map((name) => changed[name] ?? `${source}.${name}`).join(', ');

export const loadKeys = async (
  owner: pg.Client,
  { namespace, keys, templates }: ManyKeys,
): Promise<void> => {
  const [keyColumns, versionColumns] = [
    await columnsOf(owner, 'key'),
    await columnsOf(owner, 'key_version'),
  ];
  const template = `case when i > ${keys - 100} then $4::uuid when i % 10 = 0 then $3 else $2 end`;
  await owner.query('begin');
  // A million looks at them would be in the way of what is measured.
  await owner.query(`alter table public.key disable trigger key_facets;
    alter table public.key disable trigger key_changed;
    alter table public.key disable trigger key_counted;
    alter table public.key_version disable trigger key_version_counted;
    alter table public.key_version disable trigger key_version_suite_facet;
    alter table public.key_facet drop constraint key_facet_pkey;
    create temporary table many (i integer, id uuid, like_key uuid) on commit drop`);
  await owner.query(
    `insert into many select i, gen_random_uuid(), ${template}
     from generate_series(1, $1::integer) i`,
    [keys, ...templates],
  );
  await owner.query(
    `insert into public.key (${keyColumns.join(', ')})
     select ${copied(keyColumns, 't', {
       id: 'm.id',
       namespace: '$1',
       name: NAME,
       labels: `jsonb_strip_nulls(jsonb_build_object(
         'env', case when i % 100 = 1 then 'dev' when i % 10 = 2 then 'staging' else 'prod' end,
         'owner', 'team-' || i % 1000,
         'half', case when i % 2 = 0 then 'a' else 'b' end,
         'kind', case when i % 2 = 1 then 'x' end,
         'last', case when i > ${keys - 100} then 'yes' end))`,
       suspended_at: `case when i % 10000 = 7 then t.created_at end`,
       suspension_reason: `case when i % 10000 = 7 then 'reason' end`,
       destroyed_at: `case when i > ${keys - 500} then t.created_at end`,
       primary_version: '1',
       latest_version: '1',
     })}
     from many m join public.key t on t.id = m.like_key order by i`,
    [namespace],
  );
  await owner.query(
    `insert into public.key_version (${versionColumns.join(', ')})
     select ${copied(versionColumns, 't', { key_id: 'm.id' })}
     from many m join public.key_version t on t.key_id = m.like_key and t.version = 1 order by i`,
  );
  await owner.query(
    `insert into public.key_facet (namespace, facet, name)
     select $1, f, ${NAME} from many m join public.key k on k.id = m.id
     cross join lateral public.key_facets(k.labels, k.suspended_at, k.destroy_at, k.destroyed_at) f
     union all
     select $1, 'suite:' || v.suite, ${NAME}
     from many m join public.key_version v on v.key_id = m.id and v.state <> 'destroyed'`,
    [namespace],
  );
  await owner.query(`alter table public.key_facet
      add constraint key_facet_pkey primary key (namespace, facet, name);
    alter table public.key enable trigger key_facets;
    alter table public.key enable trigger key_changed;
    alter table public.key enable trigger key_counted;
    alter table public.key_version enable trigger key_version_counted;
    alter table public.key_version enable trigger key_version_suite_facet`);
  // One row that a transaction counts up a million times is read through a million of its versions.
  await owner.query('select public.count_usage($1, $2 - 500, $2)', [namespace, keys]);
  await owner.query('commit');
  await owner.query('vacuum analyze public.key, public.key_version, public.key_facet');
};

/**
 * Entries `i` of `entries` in one lane, a millisecond each up to `until`, in `namespace`:
 *
 * | column | matches |
 * |---|---|
 * | key_id, key_ref | a five-hundredth each; `rareKey` and `rare-key` the ten oldest |
 * | subject | `busy` 90 %, `user-…` a ten-thousandth each, `gone` the ten oldest |
 * | operation | wrap and unwrap by turns; `keys.suspend` the hundred oldest |
 * | outcome | ok 99 %, forbidden 1 %, `integrity_failed` the ten oldest |
 */
export interface ManyEntries {
  readonly namespace: string;
  readonly lane: number;
  readonly entries: number;
  readonly until: Date;
  readonly rareKey: string;
}

export const keyOfEntry = (i: number): string =>
  `00000000-0000-4000-8000-${String(i % 500).padStart(12, '0')}`;

export const loadEntries = async (
  owner: pg.Client,
  { namespace, lane, entries, until, rareKey }: ManyEntries,
): Promise<void> => {
  await owner.query(
    `insert into public.entry
       (lane, n, leaf, body, batch_hmac, at, namespace, operation, key_id, key_ref, subject, outcome)
     select $1, i, decode(repeat('00', 32), 'hex'), decode(repeat('ab', 300), 'hex'), null,
       $4::timestamptz - ($3::integer - i) * interval '1 ms', $2,
       case when i <= 100 then 'keys.suspend' when i % 2 = 0 then 'wrap' else 'unwrap' end,
       case when i <= 10 then $5::uuid else
         ('00000000-0000-4000-8000-' || lpad((i % 500)::text, 12, '0'))::uuid end,
       case when i <= 10 then 'rare-key' else 'key-' || i % 500 end,
       case when i <= 10 then 'gone' when i % 10 = 0 then 'user-' || i / 10 % 1000 else 'busy' end,
       case when i <= 10 then 'integrity_failed' when i % 100 = 3 then 'forbidden' else 'ok' end
     from generate_series(1, $3::integer) i`,
    [lane, namespace, entries, until, rareKey],
  );
  await owner.query('vacuum analyze public.entry');
};

/** Revisions of a set of kind `policy`, in which twenty members change by turns. */
export const loadHistory = async (
  owner: pg.Client,
  namespace: string,
  revisions: number,
): Promise<void> => {
  await owner.query(
    `insert into public.set_history (kind, namespace, revision, name, at, author, value, mac)
     select 'policy', $1, i, 'm' || i % 20, current_timestamp, '["i", "s"]', '{}', '\\x00'
     from generate_series(1, $2::integer) i`,
    [namespace, revisions],
  );
  await owner.query(
    `insert into public.set_member (kind, namespace, name, revision, at, author, value, mac)
     select case when i % 2 = 0 then 'denial' else 'grant/' || gen_random_uuid() end, $1, 'm' || i, 1,
       current_timestamp, '["i", "s"]', '{}', '\\x00'
     from generate_series(1, 20000) i`,
    [namespace],
  );
  await owner.query('vacuum analyze public.set_history, public.set_member');
};

/** Approvals of five years: nine of ten were executed, the others expired, and the last wait. */
export async function loadApprovals(owner: pg.Client, namespace: string, count: number) {
  await owner.query(
    `insert into public.approval (id, namespace, issuer, subject, operation, guards, method, path,
       query, body_hash, request_hash, preview, created_at, expires_at, state, approvers, revision, mac)
     select gen_random_uuid(), $1, 'urn:i', 'user-' || i % 50, 'keys.update', '{keys.unprotect}',
       'PATCH', '/v1/admin/keys/k', '', '\\x00', sha256(i::text::bytea), '{}',
       now() - ($2::integer - i) * interval '2 hours',
       now() - ($2::integer - i) * interval '2 hours' + interval '7 days',
       case when i % 10 = 0 or i > $2::integer - 80 then 'pending' else 'executed' end, '[]', 1, '\\x00'
     from generate_series(1, $2::integer) i`,
    [namespace, count],
  );
}
