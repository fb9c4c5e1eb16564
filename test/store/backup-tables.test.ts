/** Every table is either in a backup or left out for a reason; what is loaded is what was read. */
import { randomUUID } from 'node:crypto';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { LEFT, keptTables } from '../../src/store/backup-tables.ts';
import { openLoader } from '../../src/store/backup-load.ts';
import { openSnapshot } from '../../src/store/backup-snapshot.ts';
import { migrate, migrationNames } from '../../src/store/migrate.ts';
import { openStore } from '../../src/store/store.ts';
import { codeOf } from '../keyring/world.ts';
import { startTestDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';
import { rowsAsOwner, withOwner } from './owner.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await startTestDatabase();
}, 60_000);
afterAll(() => database.stop());

const RESTORATION = {
  backup: '01234567-89ab-4def-8123-456789abcdef',
  takenAt: new Date('2026-11-29T12:00:00Z'),
  logSize: 0,
  logRoot: new Uint8Array(32),
  migrations: ['0001_initial'],
  lastLane: 2000,
  entries: 'tail' as const,
};

const KEY = '0fedcba9-89ab-4def-8123-456789abcdef';

describe('the tables of a backup', () => {
  it('are all but those that are left out by name, which all exist', async () => {
    const rows = await rowsAsOwner<{ name: string }>(
      database,
      `select c.relname as name from pg_class c where c.relnamespace = 'public'::regnamespace
        and c.relkind in ('r', 'p') and not c.relispartition`,
    );
    const names = rows.map(({ name }) => name);
    const kept = await withOwner(database, (client) =>
      keptTables({
        query: (statement, values = []) => client.query(statement as string, [...values]),
      }),
    );
    expect([...kept.map(({ name }) => name), ...LEFT].toSorted()).toEqual(names.toSorted());
    const order = kept.map(({ name }) => name);
    expect(order.indexOf('namespace')).toBeLessThan(order.indexOf('key'));
    expect(order.indexOf('key')).toBeLessThan(order.indexOf('key_version'));
  });

  it('are read by one at a time, by the role of the server', async () => {
    const options = { url: database.appUrl };
    const snapshot = await openSnapshot(options, 'all');
    expect(await codeOf(openSnapshot(options, 'tail'))).toBe('conflict');
    for (const table of snapshot.tables) {
      for await (const lines of snapshot.rows(table)) {
        expect(lines.every((line) => line.startsWith('{') && !line.includes('\n'))).toBe(true);
      }
    }
    await snapshot.close();
    await (await openSnapshot(options, 'tail')).close();
  });

  it('have each lane as far as the log took it, whatever is kept of its entries', async () => {
    const owner = (statement: string) => withOwner(database, (client) => client.query(statement));
    const run = (trigger: string) => `alter table public.log_run ${trigger} trigger user`;
    const [lane] = await rowsAsOwner<{ id: number }>(
      database,
      `insert into public.lane (instance, kind, next) values (gen_random_uuid(), 'use', 4) returning id`,
    );
    const id = lane?.id ?? 0;
    await owner(`insert into public.log_run values (0, ${String(id)}, 1, 2), (2, ${String(id)}, 3, 1);
      insert into public.lane (instance, kind) values (gen_random_uuid(), 'change')`);
    const snapshot = await openSnapshot({ url: database.appUrl }, 'tail');
    const table = snapshot.tables.find(({ name }) => name === 'lane');
    const read: unknown[] = [];
    for await (const lines of table === undefined ? [] : snapshot.rows(table)) {
      read.push(...lines.map((line) => JSON.parse(line) as unknown));
    }
    await snapshot.close();
    const ended = { closed: true, drained: true };
    expect(read).toMatchObject([
      { id, kind: 'use', next: 4, ...ended },
      { kind: 'change', next: 1, ...ended },
    ]);
    await owner(`${run('disable')}; delete from public.log_run; ${run('enable')};
      delete from public.lane`);
  });

  it('whose process was killed ends without another, and one that is whole at that moment says so', async () => {
    const store = openStore({ url: database.appUrl });
    const { backups } = store;
    const snapshot = await openSnapshot({ url: database.appUrl }, 'tail');
    const row = { id: randomUUID(), requestedBy: null, createdAt: new Date() };
    await backups.begin({ ...row, place: 'place', entries: 'tail' }, null);
    expect(await backups.giveUpKilled()).toBe(0);
    expect(await backups.find(row.id)).toMatchObject({ state: 'running' });
    await snapshot.close();
    expect(await backups.giveUpKilled()).toBe(1);
    expect(await backups.giveUpKilled()).toBe(0);
    const failed = { state: 'failed', endedAt: expect.any(Date) };
    expect(await backups.find(row.id)).toMatchObject({ ...failed, problem: 'interrupted' });
    const sums = { bytes: 1, rows: 1, keys: 0, logSize: 0 };
    await backups.end(row.id, { state: 'complete', ...sums });
    expect(await backups.find(row.id)).toMatchObject({ state: 'complete', problem: null });
    await rowsAsOwner(database, 'delete from public.backup');
    await store.close();
  });
});

describe('loading', () => {
  it('that fails leaves nothing; a newer backup and a used database are refused', async () => {
    const loader = openLoader({ url: database.ownerUrl });
    const newer = { ...RESTORATION, migrations: ['9999_later'] };
    expect(await codeOf(loader.load(newer, () => Promise.resolve()))).toBe('conflict');
    await expect(
      loader.load(RESTORATION, async (target) => {
        await target.table({ name: 'namespace', columns: ['name'] });
        await target.row('{"name":"default"}');
        await target.table({ name: 'usage_counter', columns: ['counter', 'used'] });
        throw new TypeError('killed');
      }),
    ).rejects.toThrow();
    expect(await loader.restoration()).toBeNull();
    await rowsAsOwner(database, `insert into public.usage_counter values ('a/1', 1)`);
    expect(await codeOf(loader.load(RESTORATION, () => Promise.resolve()))).toBe('conflict');
    expect(await codeOf(loader.requireRoom({ ...RESTORATION, generations: [1] }))).toBe('conflict');
    await rowsAsOwner(database, 'delete from public.usage_counter');
    await loader.requireRoom({ ...RESTORATION, generations: [1] });
    expect(await codeOf(loader.requireRoom({ ...newer, generations: [1] }))).toBe('conflict');
    // Of a newer version, which has migrated the database and runs beside this one.
    await rowsAsOwner(
      database,
      `insert into public.twofold_migration (name, sha256, version) values ('9999_later', '', '9')`,
    );
    await loader.requireRoom({ ...newer, generations: [1] });
    await rowsAsOwner(database, `delete from public.twofold_migration where name = '9999_later'`);
    await loader.close();
  });

  it('keeps triggers, moves identities on, and is over once', async () => {
    const loader = openLoader({ url: database.ownerUrl });
    await loader.load({ ...RESTORATION, logSize: 1_000 }, async (target) => {
      await target.table({ name: 'security_epoch', columns: ['one', 'epoch'] });
      await target.row('{"one":true,"epoch":7}');
      await target.table({ name: 'log_head', columns: ['one', 'size', 'root', 'note'] });
      await target.row(`{"one":true,"size":1000,"root":"\\\\x${'00'.repeat(32)}","note":"note"}`);
      await target.table({ name: 'log_archive', columns: ['one', 'until', 'removed', 'place'] });
      await target.row('{"one":true,"until":512,"removed":256,"place":"tape 7"}');
      await target.table({ name: 'audit_sink', columns: ['name', 'next', 'changed_at'] });
      for (const [name, next] of [
        ['behind', 100],
        ['near', 990],
      ]) {
        await target.row(JSON.stringify({ name, next, changed_at: '2026-11-29T12:00:00Z' }));
      }
    });
    expect(await loader.restoration()).toMatchObject({ state: 'loaded', logSize: 1_000 });
    // Of the entries the backup has those behind the last full tile: nobody waits for the others here.
    const store = openStore({ url: database.appUrl });
    const { log, sinks } = store;
    const place = `tape 7; exports from before the restore of the backup ${RESTORATION.backup}`;
    expect(await log.archived()).toEqual({ until: 768, removed: 768, place });
    expect(await codeOf(log.entries(0, 10))).toBe('entry_archived');
    expect(await sinks.all()).toMatchObject([
      { name: 'behind', next: 768 },
      { name: 'near', next: 990 },
    ]);
    await store.close();
    const [row] = await rowsAsOwner<{ epoch: string; lane: string }>(
      database,
      `select epoch, nextval(pg_get_serial_sequence('public.lane', 'id')) as lane from public.security_epoch`,
    );
    expect(row).toEqual({ epoch: '7', lane: '2001' });
    await expect(rowsAsOwner(database, 'delete from public.log_head')).rejects.toThrow();
    await loader.verified();
    expect(await loader.restoration()).toMatchObject({ state: 'verified' });
    expect(await codeOf(loader.load(RESTORATION, () => Promise.resolve()))).toBe('conflict');
    await loader.close();
  });

  it('has room for the same backup again, but not for a root that was retired since', async () => {
    const loader = openLoader({ url: database.ownerUrl });
    const room = (backup: string) =>
      codeOf(loader.requireRoom({ ...RESTORATION, backup, generations: [1, 2] }));
    expect(await room(RESTORATION.backup)).toBe('no error');
    expect(await room('11111111-89ab-4def-8123-456789abcdef')).toBe('conflict');
    await rowsAsOwner(
      database,
      `insert into public.root_generation
        (generation, installation, state, seal_blob, seal_check, mac_blob, mac_check, canary)
        values (1, gen_random_uuid(), 'retired', '', '', '', '', '')`,
    );
    expect(await room(RESTORATION.backup)).toBe('conflict');
    await loader.close();
  });

  it('has room where there are no tables yet', async () => {
    await rowsAsOwner(database, 'drop schema public cascade');
    await rowsAsOwner(database, 'create schema public');
    const loader = openLoader({ url: database.ownerUrl });
    await loader.requireRoom({ ...RESTORATION, generations: [1] });
    await loader.close();
  });

  it('writes rows of an older version into its own schema, for later migrations to change', async () => {
    const url = database.ownerUrl;
    // Before the archive had its row, and what is due for a key its namespace.
    const migrations = migrationNames().filter((name) => name < '0035');
    const loader = openLoader({ url });
    await loader.requireRoom({ ...RESTORATION, migrations, generations: [1] });
    const only = await loader.schemaOf(migrations);
    expect([...(only ?? [])]).toEqual(migrations);
    await migrate({ url, version: '0.0.0-test', only: only ?? undefined });
    await loader.load({ ...RESTORATION, migrations }, async (target) => {
      await target.table({ name: 'namespace', columns: ['name'] });
      await target.row('{"name":"default"}');
      const key = {
        ...{ id: KEY, namespace: 'default', name: 'old', purpose: 'wrap', labels: {} },
        ...{ deletion_protection: false, min_usable_version: 1, latest_version: 1, revision: 1 },
        ...{ created_at: '2026-11-29T12:00:00Z', mac: '\\x' },
        ...{ publish: false, aliases: [], origin: 'generated' },
      };
      await target.table({ name: 'key', columns: Object.keys(key) });
      await target.row(JSON.stringify(key));
      await target.table({ name: 'key_schedule', columns: ['key_id', 'marks', 'failures'] });
      await target.row(JSON.stringify({ key_id: KEY, marks: 1, failures: 0 }));
    });
    // A run that was killed here goes on with the same.
    expect(await loader.schemaOf(migrations)).toEqual(new Set(migrations));
    await migrate({ url, version: '0.0.0-test' });
    expect(await loader.schemaOf(migrations)).toBeNull();
    const [row] = await rowsAsOwner<{ namespace: string; until: string }>(
      database,
      `select s.namespace, a.until from public.key_schedule s cross join public.log_archive a`,
    );
    expect(row).toEqual({ namespace: 'default', until: '0' });
    await loader.close();
  });
});
