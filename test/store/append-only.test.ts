/**
 * What the database itself refuses: by privileges to the server, and by triggers to the owner too, for
 * the audit tables, the security epoch, complete roots, and whatever only ever goes one way.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { onEachMajor } from './majors.ts';
import type { TestStore } from './majors.ts';
import { withClient } from './owner.ts';
import { batch, bytes, changer, openInstance, rejection } from './samples.ts';

const CHANGES = [
  ['entry', 'update public.entry set outcome = outcome'],
  ['entry', 'update public.entry set lane = lane + 1024'],
  ['entry', 'delete from public.entry'],
  ['entry', 'truncate public.entry'],
  ['entry_0', 'update public.entry_0 set body = body'],
  ['entry_0', 'delete from public.entry_0'],
  ['entry_0', 'truncate public.entry_0'],
  ['security_change', 'update public.security_change set scope = scope'],
  ['security_change', 'delete from public.security_change'],
  ['security_change', 'truncate public.security_change'],
  ['log_archive', 'update public.log_archive set until = until - 256'],
  ['log_archive', 'delete from public.log_archive'],
  ['log_archive', 'truncate public.log_archive'],
  ['log_head', 'update public.log_head set size = size - 1'],
  ['log_head', 'update public.log_head set note = note'],
  ['log_head', 'delete from public.log_head'],
  ['log_head', 'truncate public.log_head'],
  ['log_run', 'update public.log_run set lane = lane'],
  ['log_run', 'delete from public.log_run'],
  ['log_run', 'truncate public.log_run'],
  ['log_tile', 'update public.log_tile set hashes = hashes'],
  ['log_tile', `update public.log_tile set hashes = sha256('a') || hashes where level = 1`],
  ['log_tile', 'delete from public.log_tile'],
  ['log_tile', 'truncate public.log_tile'],
  ['log_checkpoint', 'update public.log_checkpoint set note = note'],
  ['log_checkpoint', 'delete from public.log_checkpoint'],
  ['log_checkpoint', 'truncate public.log_checkpoint'],
  ['lane', 'update public.lane set next = next - 1 where closed'],
  ['lane', 'update public.lane set drained = true where not closed'],
] as const;

/** Allowed by the server's privileges, and refused by triggers to everybody. */
const BACKWARDS = [
  ['the epoch lowered', 'update public.security_epoch set epoch = epoch - 1'],
  ['the epoch kept', 'update public.security_epoch set epoch = epoch'],
  ['the epoch raised by two', 'update public.security_epoch set epoch = epoch + 2'],
  ['a root replaced', `update public.root_generation set mac_blob = '\\x00' where generation = 1`],
  [
    'a root unmade',
    `update public.root_generation set state = 'intended', seal_blob = null, seal_check = null,
       mac_blob = null, mac_check = null, canary = null where generation = 1`,
  ],
  ['a counter lowered', `update public.usage_counter set used = used - 1 where counter = 'c'`],
  ['a sum of uses lowered', 'update public.version_use set uses = uses - 1'],
  ['a last use moved back', `update public.version_use set last_at = last_at - interval '1 s'`],
  ['a flush numbered again', 'update public.use_flush set flushed = flushed'],
  ['a lane opened again', 'update public.lane set closed = false where closed'],
  ['an instance opened again', 'update public.instance set closed = false where closed'],
  ['an ended operation begun again', `update public.operation set state = 'running'`],
  ['an operation set back', 'update public.operation set position = position - 1'],
  ['an intent taken back', 'update public.token_intent set abandoned = false where abandoned'],
] as const;

/** What identifies a row, and what only its owner decides. */
const FIXED = [
  ...['id', 'namespace', 'name', 'purpose', 'created_at'].map((column) => ['key', column]),
  ...['key_id', 'version', 'suite', 'created_at'].map((column) => ['key_version', column]),
  ...['generation', 'installation'].map((column) => ['root_generation', column]),
  ...['id', 'zone', 'suites', 'envelopes', 'grace_ms', 'opened_at', 'fenced'].map((column) => [
    'instance',
    column,
  ]),
  ...['object_id', 'installation', 'token_serial', 'instance', 'created_at', 'mac'].map(
    (column) => ['token_intent', column],
  ),
  ...['principal', 'request_hash', 'status', 'body', 'audit_id', 'created_at'].map((column) => [
    'idempotency',
    column,
  ]),
  ...['name', 'mac'].map((column) => ['namespace', column]),
  ...['instance', 'kind', 'opened_at'].map((column) => ['lane', column]),
  ['usage_counter', 'counter'],
  ...['key_id', 'version', 'usage', 'issuer', 'subject'].map((column) => ['version_use', column]),
  ['use_flush', 'instance'],
  ...['id', 'kind', 'namespace', 'key_id', 'request', 'issuer', 'subject', 'rate', 'mac'].map(
    (column) => ['operation', column],
  ),
  ['security_epoch', 'one'],
  ...['id', 'zone', 'kind', 'public_key', 'pinned', 'created_at'].map((column) => [
    'log_key',
    column,
  ]),
  ...['one', 'origin', 'mac'].map((column) => ['log_name', column]),
].map(([table, column]) => `update public.${table} set ${column} = ${column}`);

/** 42501 insufficient_privilege, whatever the owner's triggers say. */
const BEYOND_THE_SERVER = [
  ...CHANGES.map(([, sql]) => sql),
  'alter table public.entry disable trigger all',
  'alter table public.entry_0 disable trigger all',
  'alter table public.entry detach partition public.entry_0',
  'drop table public.entry_0',
  'drop table public.security_change',
  'select body from public.entry_0',
  `insert into public.entry_0 select lane, n + 1, leaf, body, batch_hmac, at, namespace, operation,
     key_id, key_ref, subject, outcome from public.entry limit 1`,
  'create trigger t before insert on public.entry execute function public.refuse_change()',
  'create table public.entry_2048 (like public.entry)',
  'select public.make_entry_partition(99999)',
  'delete from public.key',
  'delete from public.key_version',
  'truncate public.key_version',
  'delete from public.usage_counter',
  'update public.version_use set id = default',
  'delete from public.version_use',
  'truncate public.version_use',
  'delete from public.use_flush',
  'update public.lane set id = default',
  'delete from public.lane',
  'update public.lane set next = next + 1',
  'update public.log_archive set until = 256',
  'update public.lane set drained = true where closed',
  'insert into public.log_run values (0, 1, 1, 1)',
  "insert into public.log_tile values (1, 0, sha256(''))",
  "insert into public.log_checkpoint values (1, 'note')",
  "insert into public.log_head (one, size, root) values (true, 0, sha256(''))",
  "insert into public.lane (instance, kind) values (gen_random_uuid(), 'use')",
  'delete from public.security_epoch',
  'truncate public.security_epoch',
  'delete from public.root_generation',
  'truncate public.root_generation',
  'delete from public.instance',
  `create or replace function public.wall_clock() returns timestamptz language sql as 'select now()'`,
  'truncate public.idempotency',
  'truncate public.token_intent',
  "insert into public.namespace (name, mac) values ('mine', '\\x00')",
  'delete from public.namespace',
  'delete from public.twofold_migration',
  "insert into public.twofold_migration values ('9999_x', 'x', '9')",
  'alter table public.security_epoch disable trigger all',
  'alter table public.root_generation disable trigger all',
  'drop trigger security_epoch_rises on public.security_epoch',
  ...FIXED,
  'set session_replication_role = replica',
  'set role twofold_owner',
];

/** Each table with what the server's role may do in it, and where not in every column, in which. */
const GRANTED = `
  select t.relname as table_name, array(
      select p from unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references',
        'trigger']) with ordinality u(p, o)
      where has_table_privilege('twofold_app', t.oid, p) order by o) as privileges,
    array_agg(a.attname::text order by a.attname collate "C")
      filter (where has_column_privilege('twofold_app', t.oid, a.attnum, 'update')) as updatable,
    array_agg(a.attname::text order by a.attname collate "C")
      filter (where not has_column_privilege('twofold_app', t.oid, a.attnum, 'update')) as fixed
  from pg_class t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
  where t.relnamespace = 'public'::regnamespace and t.relkind in ('r', 'p') and not t.relispartition
  group by t.oid, t.relname order by t.relname collate "C"`;

interface Granted {
  readonly table_name: string;
  readonly privileges: readonly string[];
  readonly updatable: readonly string[] | null;
  readonly fixed: readonly string[] | null;
}

/** In the words of ARCHITECTURE.md, with columns sorted. */
const told = ({ table_name: table, privileges, updatable, fixed }: Granted): string => {
  const said = [...privileges];
  if (updatable !== null && fixed !== null) {
    const short = updatable.length <= fixed.length;
    said.push(`update ${short ? 'of' : 'but of'} ${(short ? updatable : fixed).join(', ')}`);
  }
  return `${table}: ${said.join(', ')}`;
};

/** What the table in ARCHITECTURE.md's section on the database says. */
const documented = (): readonly string[] => {
  const text = readFileSync(join(import.meta.dirname, '../../ARCHITECTURE.md'), 'utf8');
  const [, section = ''] = text.split('\n## Database\n');
  return section
    .split('\n')
    .map((line) => /^\| `(\w+)` +\|[^|]*\| ([^|]*?) +\|/u.exec(line))
    .filter((row) => row !== null)
    .map(([, table = '', may = '']) => `${table}: ${may.replaceAll('`', '')}`)
    .toSorted();
};

onEachMajor('append-only tables', (test: TestStore) => {
  beforeAll(async () => {
    const store = test.store();
    const lane = await store.audit.openLane(await openInstance(store), 'use');
    await store.audit.append(batch(lane, 1));
    await (await changer(store)).commit([]);
    await withClient(test.database().appUrl, async (app) => {
      await app.query(`insert into public.root_generation values
        (1, 'i', 'complete', '\\x01', '\\x02', '\\x03', '\\x04', '\\x05')`);
      await app.query(`insert into public.usage_counter values ('c', 5)`);
      await app.query(`insert into public.use_flush values (gen_random_uuid(), 1)`);
      await app.query(`insert into public.version_use values
        (gen_random_uuid(), 1, 'protect', 'i', 's', 5, now(), now())`);
      await app.query(`insert into public.token_intent values
        ('\\x01', 'i', 't', gen_random_uuid(), true, now(), '\\x00')`);
      await app.query(`insert into public.operation values
        (gen_random_uuid(), 'rewrap', 'default', null, '{}', 'i', 's', 1, now(), '\\x00',
          'cancelled', 'r', 5, '{}', now(), now(), 2)`);
    });
    await withClient(test.database().ownerUrl, async (owner) => {
      await owner.query('insert into public.log_run values (0, $1, 1, 1)', [lane]);
      await owner.query(`insert into public.log_tile values (1, 0, sha256(''))`);
      await owner.query(`insert into public.log_checkpoint values (1, 'note')`);
    });
    const ended = await openInstance(store);
    await store.audit.closeLane(await store.audit.openLane(ended, 'use'));
    await store.instances.close(ended);
  });

  describe('refused to everybody by triggers', () => {
    it.each(BACKWARDS)('%s', async (_, sql) => {
      for (const url of [test.database().appUrl, test.database().ownerUrl]) {
        const error = rejection(withClient(url, (client) => client.query(sql)));
        expect(await error).toMatchObject({ code: 'TF004' });
      }
    });
  });

  describe('refused to the owner by triggers', () => {
    it.each(CHANGES)('%s: %s', async (table, sql) => {
      const error = rejection(withClient(test.database().ownerUrl, (owner) => owner.query(sql)));
      expect(await error).toMatchObject({ code: 'TF004' });
      const { rows } = await withClient(test.database().ownerUrl, (owner) =>
        owner.query<{ some: boolean }>(`select exists (select from public.${table}) as some`),
      );
      expect(rows).toEqual([{ some: true }]);
    });
  });

  describe('refused to the server by privileges', () => {
    it.each(BEYOND_THE_SERVER)('%s', async (sql) => {
      const error = rejection(withClient(test.database().appUrl, (app) => app.query(sql)));
      expect(await error).toMatchObject({ code: '42501' });
    });
  });

  it('gives the server exactly what ARCHITECTURE.md says', async () => {
    const { rows } = await withClient(test.database().ownerUrl, (owner) =>
      owner.query<Granted>(GRANTED),
    );
    expect(rows.map(told)).toEqual(documented());
  });

  it('gives the server no table, and no function that it could replace', async () => {
    const { rows } = await test.store().pool.query<{ owned: string }>(
      `select relname as owned from pg_class where relowner = 'twofold_app'::regrole
       union all select proname from pg_proc where proowner = 'twofold_app'::regrole`,
    );
    expect(rows).toEqual([]);
  });

  it('takes no foreign objects in place of its own where it runs as the owner', async () => {
    const store = test.store();
    const instance = await openInstance(store);
    await withClient(test.database().ownerUrl, (owner) =>
      owner.query('grant temporary on database twofold to twofold_app'),
    );
    const client = await store.pool.connect();
    try {
      // Temporary objects come first in a search path that does not say otherwise.
      await client.query('create temporary table lane (id int, instance uuid, kind text)');
      await client.query('create temporary table instance (id uuid, closed boolean)');
      const { rows } = await client.query<{ lane: number }>(
        `select public.open_lane($1, 'use') as lane`,
        [instance],
      );
      const real = await client.query('select from public.lane where id = $1', [rows[0]?.lane]);
      expect(real.rowCount).toBe(1);
    } finally {
      client.release(true);
    }
  });

  it('lets the server append all the same', async () => {
    const store = test.store();
    const instance = await openInstance(store);
    const lane = await store.audit.openLane(instance, 'use');
    const { epoch } = await store.instances.beat(instance, 0);
    expect(await store.audit.append(batch(lane, 1, { epoch, hmac: bytes(32) }))).toEqual({ epoch });
  });
});
