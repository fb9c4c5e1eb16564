/**
 * A database of the third migration, filled with what a server of that time wrote, comes to the newest
 * schema: every row is read as it was, its MAC stands, and lists and changes of today work on it.
 */
import { createHash, createHmac, randomUUID } from 'node:crypto';
import { cp, mkdir, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Key, KeyVersion } from '../../src/keyring/model.ts';
import type { Attested, KeyWrite } from '../../src/keyring/ports.ts';
import {
  attestKey,
  attestVersion,
  canonicalKey,
  canonicalVersion,
  verifyStored,
} from '../../src/keyring/row-mac.ts';
import type { RowMac } from '../../src/keyring/row-mac.ts';
import { startEmbedded } from '../../src/store/embedded.ts';
import { MIGRATIONS, migrate, NEEDED } from '../../src/store/migrate.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { KEY, VERSIONS } from '../keyring/samples.ts';
import {
  active,
  auditQuery,
  batch,
  changer,
  entry,
  key,
  keyQuery,
  openInstance,
} from './samples.ts';
import type { Changer } from './samples.ts';
import { withClient } from './owner.ts';
import { catalogOf, changesFor, readsWhole } from '../rolling/catalog.ts';
import type { Catalog } from '../rolling/catalog.ts';
import { readPrevious } from '../rolling/previous.ts';

const OLD = ['0001_initial', '0002_published_keys', '0003_certificate_chains'];
const NAMES = ['ml-train', 'payments', 'shown'];
const PEM = '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n';

/** As the golden MACs were made. */
const mac: RowMac = async (data) =>
  createHmac('sha256', Buffer.alloc(32, 0x2a)).update(data).digest();

const HELD_BY_NOBODY = `create function public.grace_held(bigint) returns boolean language sql as 'select false'`;
/** What reserves uses looks for policies by use. */
const NOTHING_SCHEDULED = `create table public.key_schedule (key_id uuid, max_uses bigint);
  grant select on public.key_schedule to public`;

let folder: string;
let server: Awaited<ReturnType<typeof startEmbedded>>;
let store: Store;
let writer: Changer;
let lane: number;
/** What a program of the release before finds, before the migrations of this one. */
let before: Catalog;
/** The tables of that release which each migration since reads from end to end: `file table`. */
const whole: string[] = [];
const previous = readPrevious();
const golden = new Map<string, Uint8Array>();
const written: { readonly key: Key; readonly versions: readonly KeyVersion[] }[] = [];

/** With the MAC that the server of that time made, from the file that is never made anew. */
const asThen = <T>(value: T, name: string): Attested<T> => ({
  value,
  mac: golden.get(name) ?? new Uint8Array(0),
});

const put = async (
  row: Attested<Key>,
  versions: readonly Attested<KeyVersion>[],
  more: readonly KeyWrite[] = [],
): Promise<void> => {
  written.push({ key: row.value, versions: versions.map(({ value }) => value) });
  // Formats 1 and 2 are those of that time.
  const formats = [
    canonicalKey(row.value),
    ...versions.map((each) => canonicalVersion(each.value)),
  ];
  expect(Math.max(...formats.map(([format = 0]) => format))).toBeLessThanOrEqual(2);
  await writer.commit([
    { kind: 'insert-key', row },
    ...versions.map((each) => ({ kind: 'insert-version', row: each }) as const),
    ...more,
  ]);
};

const fillAsThen = async (): Promise<void> => {
  const second = { ...VERSIONS.active, version: 2, suite: 0x0103 } as KeyVersion;
  await put(asThen(KEY, 'key'), [
    asThen(VERSIONS.deactivated, 'deactivated'),
    await attestVersion(mac, second),
  ]);
  const shown = key({ name: 'shown', publish: true, labels: { team: 'web' } });
  const chain = Uint8Array.from(createHash('sha256').update(PEM).digest());
  await put(
    await attestKey(mac, shown),
    [await attestVersion(mac, active(shown.id, { certificateChain: chain }))],
    [{ kind: 'put-certificate-chain', keyId: shown.id, version: 1, pem: PEM }],
  );
  const train = key({ name: 'ml-train', primary: 2, latestVersion: 2, labels: { team: 'ml' } });
  await put(await attestKey(mac, train), [
    await attestVersion(mac, { ...VERSIONS.destroyed, keyId: train.id }),
    await attestVersion(mac, active(train.id, { version: 2, suite: 0x0401 })),
  ]);
  await store.keys.reserveUses(`${train.id}/2`, 256);
  lane = await store.audit.openLane(writer.instance, 'use');
  const entries = ['wrap', 'unwrap', 'keys.read'].map((operation) =>
    entry(undefined, { operation, keyId: train.id, keyRef: 'ml-train', subject: 'then' }),
  );
  const { epoch } = await store.instances.beat(writer.instance, 0);
  await store.audit.append(batch(lane, 1, { epoch, entries }));
};

beforeAll(async () => {
  const text = await readFile(new URL('../keyring/row-mac.golden.json', import.meta.url), 'utf8');
  for (const [name, row] of Object.entries(JSON.parse(text) as Record<string, { mac: string }>)) {
    golden.set(name, Uint8Array.from(Buffer.from(row.mac, 'hex')));
  }
  folder = await mkdtemp(join(tmpdir(), 'twofold-upgrade-'));
  const old = join(folder, 'migrations');
  for (const name of OLD) await cp(join(MIGRATIONS, name), join(old, name), { recursive: true });
  const dataDir = join(folder, 'data');
  await mkdir(dataDir);
  server = await startEmbedded({ dataDir });
  expect(await migrate({ url: server.ownerUrl, version: '0.0.1', dir: old })).toEqual(OLD);
  store = openStore({ url: server.appUrl });
  // What the statements of today ask beside those of then.
  await withClient(server.ownerUrl, async (client) => {
    await client.query(HELD_BY_NOBODY);
    await client.query(NOTHING_SCHEDULED);
    writer = await changer(store);
    await fillAsThen();
    await client.query('drop function public.grace_held');
    await client.query('drop table public.key_schedule');
  });
  const all = (await readdir(MIGRATIONS)).filter((name) => /^\d/u.test(name)).toSorted();
  for (const name of all.filter((each) => each <= previous.migration)) {
    await cp(join(MIGRATIONS, name), join(old, name), { recursive: true });
  }
  const known = await migrate({ url: server.ownerUrl, version: '0.0.2', dir: old });
  before = await withClient(server.ownerUrl, catalogOf);
  await withClient(server.ownerUrl, async (client) => {
    await client.query('begin');
    for (const name of all.filter((each) => each > previous.migration)) {
      const sql = await readFile(join(MIGRATIONS, name, 'migration.sql'), 'utf8');
      for (const table of await readsWhole(client, sql)) {
        if (before.has(`table ${table}`)) whole.push(`${name} ${table}`);
      }
    }
    await client.query('rollback');
  });
  const newer = await migrate({ url: server.ownerUrl, version: '0.0.3' });
  expect([...OLD, ...known, ...newer]).toEqual(all);
}, 120_000);
afterAll(async () => {
  await store.close();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}, 60_000);

const namesOf = async (over: Parameters<typeof keyQuery>[0]) =>
  (await store.keys.list(keyQuery(over))).keys.map((each) => each.key.value.name);

describe('a database of the third migration', () => {
  it('keeps every key and version as it was, with MACs that stand', async () => {
    for (const { key: row, versions } of written) {
      const found = await store.keys.find('default', { id: row.id }, 0);
      if (found === null) throw new Error(`${row.name} is gone`);
      expect(found.key.value).toEqual(row);
      expect(found.versions.map(({ value }) => value)).toEqual(versions);
      await verifyStored(mac, found);
    }
  });

  it('lists its keys by every filter', async () => {
    expect(await namesOf({})).toEqual(NAMES);
    expect(await namesOf({ labels: { team: 'ml' } })).toEqual(['ml-train', 'payments']);
    expect(await namesOf({ state: 'suspended' })).toEqual(['payments']);
    expect(await namesOf({ state: 'enabled' })).toEqual(['ml-train', 'shown']);
    expect(await namesOf({ suite: 0x0103 })).toEqual(['payments']);
    expect(await namesOf({ namePrefix: 'ml' })).toEqual(['ml-train']);
    expect((await store.keys.published('default', 0, 10)).map(({ name }) => name)).toEqual([
      'shown',
    ]);
  });

  it('finds its audit entries by every filter, and appends to its lanes', async () => {
    const [, , train] = written;
    const of = async (over: Parameters<typeof auditQuery>[0]) =>
      (await store.audit.entries(auditQuery(over))).entries.length;
    expect(await of({})).toBe(6);
    expect(await of({ subject: 'then' })).toBe(3);
    expect(await of({ keyRef: 'ml-train' })).toBe(3);
    expect(await of({ keyId: train?.key.id ?? null, operation: 'unwrap' })).toBe(1);
    expect(await of({ operation: 'keys.create' })).toBe(3);
    const { epoch } = await store.instances.beat(writer.instance, 0);
    await store.audit.append(batch(lane, 4, { epoch }));
    expect(await of({})).toBe(7);
  });

  it('has every key looked at by the scheduler, and counts uses from then on', async () => {
    const due = await store.scheduler.due(new Date(0), 100, null);
    const ids = written.map(({ key: { id } }) => id);
    expect(due.map(({ keyId }) => keyId).toSorted()).toEqual(ids.toSorted());
    expect((await store.scheduler.usesOf(written[2]?.key.id ?? '', 2)) > 0).toBe(true);
    const instance = await openInstance(store);
    const now = new Date();
    const use = { keyId: randomUUID(), version: 1, usage: 'protect', uses: 2 } as const;
    const sum = { ...use, issuer: 'urn:i', subject: 's', firstAt: now, lastAt: now };
    await store.uses.addUses({ instance, number: 1, sums: [sum] });
    expect((await store.uses.usesOf(use.keyId, { from: 1, until: 9 })).totals).toHaveLength(1);
  });

  it('takes a change with what came later, and the MACs of today', async () => {
    const [before] = written;
    if (before === undefined) throw new Error('nothing was written');
    const changed: Key = { ...before.key, aliases: ['pay'], revision: before.key.revision + 1 };
    const row = await attestKey(mac, changed);
    await writer.commit([{ kind: 'update-key', row, expected: before.key.revision }]);
    const found = await store.keys.find('default', { name: 'pay' }, 0);
    expect(found?.key.value).toEqual(changed);
    if (found !== null) await verifyStored(mac, found);
  });

  it('does not verify where a row was altered on the way', async () => {
    const [, shown] = written;
    if (shown === undefined) throw new Error('nothing was written');
    const { id } = shown.key;
    await withClient(server.ownerUrl, (owner) =>
      owner.query('update public.key set min_usable_version = 0 where id = $1', [id]),
    );
    const found = await store.keys.find('default', { id }, 0);
    if (found === null) throw new Error('it is gone');
    await expect(verifyStored(mac, found)).rejects.toMatchObject({ code: 'integrity_failed' });
  });
});

describe('what the release before runs on', () => {
  const plant = (sql: string): Promise<string[]> =>
    withClient(server.ownerUrl, async (client) => {
      await client.query('begin');
      const now = await catalogOf(client);
      await client.query(sql);
      return changesFor(now, await catalogOf(client));
    });

  it('is kept by every migration since, but for what test/rolling/previous.json gives up', async () => {
    const changes = changesFor(before, await withClient(server.ownerUrl, catalogOf));
    const givenUp = new Set(previous.contracts.map(({ object }) => object));
    expect(changes.filter((object) => !givenUp.has(object))).toEqual([]);
    // What is given up must have been without use in that release already, or it could not run on.
    for (const { unneededSince } of previous.contracts) {
      expect(unneededSince <= previous.migration).toBe(true);
    }
    expect(NEEDED).toBe(previous.migration);
  });

  it('is read from end to end by no migration since, but for what the same file allows', () => {
    const allowed = previous.wholeReads.map(({ migration, table }) => `${migration} ${table}`);
    expect(whole).toEqual(allowed);
  });

  it.each([
    ['alter table public.key add n int check (n > 0)', ['key']],
    ['alter table public.key add n int, add check (n > 0) not valid', []],
    ['alter table public.backup alter problem set not null', ['backup']],
    ['create index x on public.entry (leaf)', ['entry_0']],
    ['update public.key set revision = revision', ['key']],
    ['alter table public.lane add n timestamptz default clock_timestamp()', ['lane']],
    ['alter table public.lane add n int not null default 0', []],
  ])('is read from end to end or not by: %s', async (sql, tables) => {
    await withClient(server.ownerUrl, async (client) => {
      await client.query('begin');
      expect(await readsWhole(client, sql)).toEqual(tables);
    });
  });

  it.each([
    ['drop table public.limit_bucket cascade', /^table limit_bucket$/u],
    ['alter table public.entry rename column subject to who', /^column entry\.subject$/u],
    ['alter table public.key drop column labels cascade', /^column key\.labels$/u],
    ['alter table public.backup alter column problem set not null', /^column backup\.problem$/u],
    ['alter table public.backup alter column bytes type numeric', /^column backup\.bytes$/u],
    ['alter table public.backup add n int not null', /^column backup\.n$/u],
    ['alter table public.key drop constraint key_pkey cascade', /^constraint key\.key_pkey$/u],
    ['alter table public.lane add constraint x check (next < 9e9)', /^constraint lane\.x$/u],
    ['create unique index x on public.instance (zone, beat)', /^unique instance\.x$/u],
    ['drop function public.grace_held(bigint)', /^function grace_held\(bigint\)$/u],
    ['drop function public.grace_held(bigint)', /^right execute grace_held\(bigint\)$/u],
    [
      'create function public.grace_held(bigint, int default 1) returns boolean language sql as $$select true$$',
      /^function grace_held\(bigint,integer\)$/u,
    ],
    ['revoke select on public.instance from twofold_app', /^right select instance\.zone$/u],
    ['revoke insert on public.instance from twofold_app', /^right insert instance\.zone$/u],
    [
      'create trigger x before insert on public.lane for each row execute function public.name_schedule()',
      /^trigger lane\.x$/u,
    ],
  ])('is not kept by: %s', async (sql, named) => {
    expect(await plant(sql)).toContainEqual(expect.stringMatching(named));
  });

  it.each([
    'alter table public.lane add n int not null default 0, add m text',
    'create table public.more (id int primary key, constraint positive check (id > 0))',
    'create index x on public.entry (leaf)',
    'alter table public.instance drop constraint instance_grace',
    'create function public.other(int) returns int language sql as $$select 1$$',
    `create or replace function public.grace_held(p_epoch bigint) returns boolean language sql as 'select false'`,
  ])('is kept by: %s', async (sql) => {
    expect(await plant(sql)).toEqual([]);
  });
});
