/**
 * Every list is read in the order of an index: what its very statements do among many rows, as the
 * server's planner says of them, with the settings that a deployment has.
 */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ROUTES } from '../../src/contract/routes.ts';
import { UNINDEXED_OPERATIONS } from '../../src/store/audit-list.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { startTestDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';
import { LISTS } from './list-plans.ts';
import type { Loaded } from './list-plans.ts';
import { loadApprovals, loadEntries, loadHistory, loadKeys } from './many-rows.ts';
import { withClient, withOwner } from './owner.ts';
import { hasPostgres15 } from './postgres-15.ts';
import { active, attested, changer, key, openInstance } from './samples.ts';

const KEYS = 20_000;
const ENTRIES = 20_000;
const SUITES = [0x0401, 0x0101, 0x0103] as const;
/** What a page may look at: 1,000 candidates. */
const ROWS_BESIDE = 1_000;
/** Rows of a page of 50 and one more, with two versions each. */
const PAGE_ROWS = 102;

interface Sent {
  readonly text: string;
  readonly values: readonly unknown[];
}

/** What EXPLAIN (ANALYZE, FORMAT JSON) says of a step. */
interface Step {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Filter'?: number;
  readonly 'Index Cond'?: string;
  readonly Plans?: readonly Step[];
}

const stepsOf = (step: Step): readonly Step[] => [step, ...(step.Plans ?? []).flatMap(stepsOf)];

/** Keeps what every connection of the store sends, Prisma's statements too. */
const recordStatements = (store: Store): Sent[] => {
  const sent: Sent[] = [];
  store.pool.on('connect', (client) => {
    const query = client.query.bind(client) as (...args: unknown[]) => unknown;
    client.query = ((...args: unknown[]) => {
      const [statement, values] = args;
      if (typeof statement === 'string') sent.push({ text: statement, values: valuesOf(values) });
      else {
        const { text, values: own } = statement as { text: string; values?: unknown };
        sent.push({ text, values: valuesOf(own ?? values) });
      }
      return query(...args);
    }) as pg.PoolClient['query'];
  });
  return sent;
};

const valuesOf = (values: unknown): readonly unknown[] => (Array.isArray(values) ? values : []);

const isRead = ({ text }: Sent): boolean => /^\s*(select|with|update|delete)\b/iu.test(text);

const explain = async (client: pg.Client, { text, values }: Sent): Promise<readonly Step[]> => {
  await client.query('begin');
  try {
    const { rows } = await client.query<{ 'QUERY PLAN': readonly { readonly Plan: Step }[] }>(
      `explain (analyze, format json) ${text}`,
      [...values],
    );
    return rows.flatMap((row) => row['QUERY PLAN'].flatMap(({ Plan }) => stepsOf(Plan)));
  } finally {
    await client.query('rollback');
  }
};

const SORTS = ['Sort', 'Incremental Sort'];

/** What a step does that grows with the table; empty when nothing. */
const faultsOf = (step: Step, { small, beside }: { small: readonly string[]; beside: number }) => {
  const type = step['Node Type'];
  const table = step['Relation Name'] ?? '';
  if (small.includes(table.replace(/_\d+$/u, ''))) return [];
  const rows = step['Actual Rows'] * step['Actual Loops'];
  const removed = (step['Rows Removed by Filter'] ?? 0) * step['Actual Loops'];
  return [
    ...(type === 'Seq Scan' ? [`reads ${table} whole`] : []),
    ...(SORTS.includes(type) && rows > PAGE_ROWS ? [`sorts ${String(rows)} rows`] : []),
    ...(type === 'Bitmap Index Scan' && rows > beside ? ['collects rows in no order'] : []),
    ...(/^Index/u.test(type) && step['Index Cond'] === undefined && rows > beside
      ? [`reads an index of ${table} whole`]
      : []),
    ...(removed > beside ? [`passes over ${String(removed)} rows`] : []),
    ...(rows > beside + PAGE_ROWS ? [`${type} reads ${String(rows)} rows`] : []),
  ];
};

const suite = (major: 15 | 18): void => {
  let database: TestDatabase;
  let store: Store;
  let sent: Sent[];
  let loaded: Loaded;

  const template = async (of: number): Promise<string> => {
    const row = key();
    await (
      await changer(store)
    ).commit([
      { kind: 'insert-key', row: attested(row) },
      { kind: 'insert-version', row: attested(active(row.id, { suite: of })) },
    ]);
    return row.id;
  };

  beforeAll(async () => {
    database = await startTestDatabase({ major });
    store = openStore({ url: database.appUrl });
    sent = recordStatements(store);
    const namespace = 'many';
    const rareKey = randomUUID();
    const order = randomUUID();
    const lane = await store.audit.openLane(await openInstance(store), 'use');
    const templates = [
      await template(SUITES[0]),
      await template(SUITES[1]),
      await template(SUITES[2]),
    ] as const;
    await withOwner(database, async (owner) => {
      await owner.query(`insert into public.namespace (name, mac) values ($1, '\\x00')`, [
        namespace,
      ]);
      await loadKeys(owner, { namespace, keys: KEYS, templates });
      const until = new Date();
      await loadEntries(owner, { namespace, lane, entries: ENTRIES, until, rareKey });
      await loadHistory(owner, namespace, 20_000);
      await loadApprovals(owner, namespace, 20_000);
      // The other tables have many rows too.
      await owner.query(
        `insert into public.idempotency (namespace, principal, key, request_hash, status, body, audit_id, mac)
         select 'many', '\\x00', i::text, '\\x00', 200, '', '1-1', '\\x00' from generate_series(1, 20000) i`,
      );
      await owner.query(
        `insert into public.security_change (epoch, scope, namespace, lane, n)
         select 1000 + i, 'key', 'many', 1000, i from generate_series(1, 20000) i`,
      );
      await owner.query(
        'update public.key set publish = true where id in (select id from public.key where suspended_at is null limit 5000)',
      );
      await owner.query(
        `insert into public.version_use
           (key_id, version, usage, issuer, subject, uses, first_at, last_at)
         select $1, 1, 'protect', 'urn:i', 'user-' || i, 1, to_timestamp(0), now() - i * interval '1 s'
         from generate_series(1, 20000) i`,
        [rareKey],
      );
      await owner.query(
        `insert into public.operation (id, kind, namespace, request, issuer, subject, rate, created_at,
           mac, state, position, counts, updated_at, expires_at, revision)
         select gen_random_uuid(), 'rewrap', $1, '{}', 'urn:i', 'user-' || i % 400, 1,
           to_timestamp(1700000000 + i * 5000), '\\x00', 'succeeded', 0, '{}', now(), now(), 1
         from generate_series(1, 20000) i`,
        [namespace],
      );
      await owner.query(
        `insert into public.usage_counter (counter, used)
         select gen_random_uuid() || '/1', i from generate_series(1, 20000) i`,
      );
      await owner.query(
        // Newer than all of the namespace.
        `insert into public.scheduled_run
           (key_id, policy_revision, action, due_at, done_at, term, namespace)
         select $1, 1, 'rotate/' || i, now(), now() + i * interval '1 s', 1, 'another'
         from generate_series(1, 20000) i`,
        [rareKey],
      );
      await owner.query(
        `insert into public.operation (id, kind, namespace, request, issuer, subject, rate, created_at,
           mac, state, position, counts, updated_at, expires_at, revision)
         values ($1, 'rotation', $2, '{}', 'urn:i', 'user-7', 1, now(), '\\x00', 'running', 0, '{}',
           now(), now() + interval '1 d', 1)`,
        [order, namespace],
      );
      await owner.query('insert into public.rotation_order (operation_id) values ($1)', [order]);
      await owner.query(
        `insert into public.rotation_order_key (operation_id, key_id, state, next_at, code, at)
         select $1, k.id, case when n % 100 = 0 then 'failed' when n % 3 = 0 then 'waiting' else 'rotated' end,
           now() - n * interval '1 s', case when n % 100 = 0 then 'hsm_full' end, now()
         from (select id, row_number() over () as n from public.key where namespace = $2) k`,
        [order, namespace],
      );
      await owner.query(
        `update public.key_schedule s set
           next_at = case when n % 3 = 1 then '-infinity' else now() - n * interval '1 s' end,
           failures = (n % 3 = 0)::integer, failure_code = case when n % 3 = 0 then 'hsm_full' end,
           failed_at = case when n % 3 = 0 then now() end,
           failing_since = case when n % 3 = 0 then now() - n * interval '1 s' end
         from (select key_id, row_number() over () as n from public.key_schedule) k
         where k.key_id = s.key_id`,
      );
      await owner.query(
        `insert into public.lane (instance, kind) select gen_random_uuid(), 'use'
         from generate_series(1, 20000)`,
      );
      await owner.query(
        `insert into public.log_run (first, lane, from_n, count)
         select i, $1, i + 1, 1 from generate_series(0, $2 - 1) i`,
        [lane, ENTRIES],
      );
      await owner.query(
        `insert into public.log_checkpoint (size, note)
         select i, 'note' from generate_series(1, 20000) i`,
      );
      await owner.query(
        `insert into public.log_tile (level, index, hashes)
         select 0, i, decode(repeat('00', 8192), 'hex') from generate_series(100, 2000) i`,
      );
      await owner.query(
        `insert into public.scheduled_run
           (key_id, policy_revision, action, due_at, done_at, term, namespace)
         select id, 1, 'rotate/1/1', now(), now() - row_number() over () * interval '1 s', 1, $1
         from public.key where namespace = $1`,
        [namespace],
      );
      await owner.query('vacuum analyze');
    });
    loaded = {
      store,
      namespace,
      keys: KEYS,
      entries: ENTRIES,
      lane,
      rareKey,
      order,
      commonSuite: SUITES[0],
      rareSuite: SUITES[2],
    };
  }, 120_000);

  afterAll(async () => {
    await store.close();
    await database.stop();
  }, 60_000);

  it.each(LISTS)('$name', async ({ run, small = [], rowsBeside = ROWS_BESIDE }) => {
    sent.length = 0;
    await run(loaded);
    const statements = sent.filter(isRead);
    expect(statements).not.toEqual([]);
    await withClient(database.appUrl, async (client) => {
      for (const statement of statements) {
        const steps = await explain(client, statement);
        const faults = steps.flatMap((step) => faultsOf(step, { small, beside: rowsBeside }));
        expect([statement.text, faults]).toEqual([statement.text, []]);
      }
    });
  });

  it('has an index for the operations that lists think it has one for', async () => {
    const { rows } = await store.pool.query<{ without: string }>(
      `select pg_get_expr(indpred, indrelid) as without from pg_index
       where indexrelid = 'public.entry_operation_idx'::regclass`,
    );
    const named = [...(rows[0]?.without ?? '').matchAll(/'([a-z.-]+)'/gu)].map(([, name]) => name);
    expect(named.toSorted()).toEqual([...UNINDEXED_OPERATIONS].toSorted());
  });

  it('finds the faults that it looks for', async () => {
    const bad = [
      'select * from public.key where labels @> $1::jsonb',
      'select * from public.key where namespace = $1 order by created_at limit 10',
      `select * from public.entry where namespace = $1 and body = '\\x00' order by at limit 10`,
      `select * from public.key where namespace = $1 and purpose = 'none' order by name limit 10`,
    ];
    await withClient(database.appUrl, async (client) => {
      for (const text of bad) {
        const values = [text.includes('jsonb') ? '{"env":"dev"}' : 'many'];
        const steps = await explain(client, { text, values });
        const faults = steps.flatMap((step) => faultsOf(step, { small: [], beside: ROWS_BESIDE }));
        expect([text, faults.length]).not.toEqual([text, 0]);
      }
    });
  });

  it('gives the indexes of entries to partitions that are made later', async () => {
    await withOwner(database, async (owner) => {
      await owner.query('select public.make_entry_partition(500000)');
      const indexesOf = async (table: string) => {
        const { rows } = await owner.query<{ columns: string }>(
          `select regexp_replace(pg_get_indexdef(indexrelid), '^.* USING ', '') as columns
           from pg_index where indrelid = $1::regclass and indisvalid order by 1`,
          [table],
        );
        return rows.map(({ columns }) => columns);
      };
      const all = await indexesOf('public.entry');
      expect(all.length).toBeGreaterThan(1);
      expect(await indexesOf('public.entry_499712')).toEqual(all);
    });
  });
};

describe('lists among many rows (PostgreSQL 18)', () => suite(18));
if (hasPostgres15) describe('lists among many rows (PostgreSQL 15)', () => suite(15));

/** Pages are what `page(...)` of the contract makes: items and where the list goes on. */
const isList = ({ response }: { readonly response?: unknown }): boolean => {
  const { shape } = (response ?? {}) as { readonly shape?: Readonly<Record<string, unknown>> };
  return shape?.['items'] !== undefined && shape['nextPageToken'] !== undefined;
};

describe('the contract', () => {
  it('has no list whose statements are not explained here', () => {
    const lists = Object.values(ROUTES)
      .filter(isList)
      .map(({ id }) => id);
    expect(lists.toSorted()).toEqual(
      [...new Set(LISTS.flatMap(({ routes }) => routes))].toSorted(),
    );
  });
});
