/** The database itself keeps the audit tables append-only: by privileges and, for the owner, by triggers. */
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
] as const;

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
  'update public.lane set id = default',
  'delete from public.lane',
  "insert into public.lane (instance, kind) values (gen_random_uuid(), 'use')",
  'delete from public.security_epoch',
  'set session_replication_role = replica',
  'set role twofold_owner',
];

onEachMajor('append-only tables', (test: TestStore) => {
  beforeAll(async () => {
    const store = test.store();
    const lane = await store.audit.openLane(await openInstance(store), 'use');
    await store.audit.append(batch(lane, 1));
    await (await changer(store)).commit([]);
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
