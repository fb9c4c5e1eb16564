/** A rotation of the root on a real database: every table, the guards of its SQL, and the retirement. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { mintGrant } from '../../src/access/grant.ts';
import type { Operation } from '../../src/access/grant.ts';
import { SCHEDULER } from '../../src/access/system.ts';
import type { LogKey } from '../../src/audit/key-ports.ts';
import { attestLogKey, attestLogName, verifyLogKeys } from '../../src/audit/key-rows.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { openGovernance } from '../../src/governance/governance.ts';
import { commitRetirement } from '../../src/governance/root-retirement.ts';
import { requireInEveryZone } from '../../src/governance/root-zones.ts';
import { logSeals } from '../../src/keyring/log-keys.ts';
import { completeRoot, followRoot } from '../../src/keyring/root-opening.ts';
import { rootChange, retiredName } from '../../src/keyring/root-ports.ts';
import { RootRotation } from '../../src/keyring/root-rotation.ts';
import { attestIntent } from '../../src/keyring/row-mac.ts';
import { writeInitialPolicies } from '../../src/main/access.ts';
import { GOVERNED_FORMS } from '../../src/main/root-rotation.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { openStoredInstance } from '../keyring/stored-instance.ts';
import type { StoredInstance } from '../keyring/stored-instance.ts';
import { watchedHsm } from '../keyring/watched-hsm.ts';
import { INSTALLATION, aKey, aRun, codeOf } from '../keyring/world.ts';
import { startTestDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';
import { withClient } from './owner.ts';
import { bytes } from './samples.ts';

let database: TestDatabase;
let store: Store;
let service: StoredInstance;
const device = watchedHsm();
const governance = () => openGovernance(service.governing);

beforeAll(async () => {
  database = await startTestDatabase();
  store = openStore({ url: database.appUrl });
  device.token.makeRoot({ generation: 1, installation: INSTALLATION });
  service = await openStoredInstance(store, { hsm: device.hsm, otherZones: ['z2'] });
  service.epoch.onChange(({ keyName }) => {
    const change = rootChange(keyName);
    if (change?.act === 'in-force') service.root.enforce(change.generation);
  });
}, 60_000);
afterAll(async () => {
  await service.stop();
  await store.close();
  await database.stop();
}, 60_000);

const grantOf = <O extends Operation>(operation: O) =>
  mintGrant({
    operation,
    namespace: 'default',
    key: null,
    principal: SCHEDULER,
    decision: { allowed: true, revision: 'test', policies: [] },
    epoch: service.epoch.current,
  });

const begin = () =>
  service.rootRotations.begin(
    service.grant('root.rotate', null),
    { generation: null, reason: 'yearly', withoutZones: [] },
    { ...aRun(), render: (view) => ({ status: 202, body: JSON.stringify(view) }) },
  );

const work = () =>
  new RootRotation(
    {
      ...service.governing,
      operations: store.operations,
      root: service.root,
      roots: store.roots,
      rotations: store.rootRotations,
      forms: GOVERNED_FORMS,
      batch: 32,
      rest: () => Promise.resolve(),
      onFailure: (what, error) => {
        throw new Error(what, { cause: error });
      },
    },
    { oversee: () => grantOf('operations.oversee'), carryOut: () => grantOf('root.carry-out') },
  ).run(() => Promise.resolve(true));

/** A row in every table that has a MAC. */
async function populate(): Promise<void> {
  const { root, keyring, governing } = service;
  await writeInitialPolicies(governance(), service.epoch);
  const named = { name: 'of-the-root', description: '' };
  await governance().namespaces.create(service.grant('namespaces.change', null), named, {
    ...aRun(),
    render: () => ({ status: 201, body: '{}' }),
  });
  const idempotency = { key: 'k', requestHash: bytes(32) };
  const key = aKey({ suite: 'MLKEM768-P256' });
  await keyring.manage.create(service.grant('keys.create', key.name), key, {
    ...aRun(),
    idempotency,
  });
  const seals = logSeals(root);
  const createdAt = new Date();
  const id = randomUUID();
  const pair: LogKey = {
    ...{ id, zone: 'z1', kind: 'ml-dsa-44', publicKey: bytes(1312), state: 'active', pinned: true },
    material: await seals.seal(SecretBytes.own(Buffer.alloc(32, 1)), id),
    ...{ announced: null, createdAt, activatedAt: createdAt, retiredAt: null, revision: 1 },
  };
  await store.logKeys.make(await attestLogName(root.mac, { origin: 'log.test', createdAt }), {
    rows: [await attestLogKey(root.mac, pair)],
    objectId: null,
  });
  const intent = {
    objectId: bytes(37),
    installation: INSTALLATION,
    tokenSerial: 'serial',
    instance: service.id,
    createdAt,
  };
  await store.keys.intendTokenObject(await attestIntent(governing.mac, intent));
}

/** What `hsm generation retire` asks first. */
const retirable = () =>
  requireInEveryZone(store.rootRotations, {
    ...{ generation: 2, others: ['z2'], without: [], say: '--without-zone ZONE' },
  });

const left = async () =>
  (await store.rootRotations.references()).filter(({ generation }) => generation !== 2);

it('goes through every table once, and the old generation can then be retired', async () => {
  await populate();
  const ids = [await service.create(), await service.create({ suite: 'A256GCM' })];
  for (let more = 0; more < 40; more += 1) await service.create({ suite: 'HS256' });
  const wrapped = await Promise.all(ids.map((id) => service.wrap(id, id)));
  const before = await store.rootRotations.references();
  expect(before.map(({ what }) => what)).toEqual(
    expect.arrayContaining([
      'key',
      'version',
      'member',
      'history',
      'seal',
      'idempotency',
      'intent',
    ]),
  );
  expect(before.map(({ what }) => what)).toEqual(
    expect.arrayContaining(['log-name', 'log-key', 'log-seed', 'classical', 'pq', 'psk']),
  );
  const row = await store.roots.intend(2, INSTALLATION);
  device.token.makeRoot({ generation: 2, installation: INSTALLATION });
  await completeRoot(watchedHsm(device.token).hsm, store.roots, row, 'complete');
  // This instance has not announced it.
  await followRoot(device.hsm, store.roots, service.root, () => false);
  expect(await codeOf(begin())).toBe('conflict');
  await store.instances.announceGenerations(service.id, service.root.generations);
  // A zone that is stopped keeps it from beginning, and what an instance there has had open is enough.
  expect(await codeOf(retirable())).toBe('conflict');
  await expect(begin()).rejects.toMatchObject({
    code: 'conflict',
    detail: expect.stringContaining('zone z2'),
  });
  const ended = { id: randomUUID(), zone: 'z2', suites: [], envelopes: [], graceMs: 0 };
  await store.instances.open(ended);
  await store.instances.announceGenerations(ended.id, [1]);
  expect(await codeOf(begin())).toBe('conflict');
  await store.instances.announceGenerations(ended.id, [1, 2]);
  await store.instances.close(ended.id);
  // Nobody knows what became of a zone that has been silent for longer than a day.
  const silentFor = (time: string) =>
    withClient(database.ownerUrl, (owner) =>
      owner.query(
        'update public.instance set beat_at = clock_timestamp() - $2::interval where id = $1',
        [ended.id, time],
      ),
    );
  await silentFor('25 hours');
  expect(await codeOf(retirable())).toBe('conflict');
  await silentFor('23 hours');
  expect(await codeOf(retirable())).toBe('no error');
  const [first, second] = await Promise.allSettled([begin(), begin()]);
  expect([first.status, second.status].toSorted()).toEqual(['fulfilled', 'rejected']);
  await work();
  expect(await left()).toEqual([]);
  const { items } = await service.rootRotations.list(service.grant('root.read', null), {
    pageSize: 5,
    after: null,
  });
  expect(items).toHaveLength(1);
  expect(items[0]).toMatchObject({ state: 'succeeded', reason: null });
  for (const [index, id] of ids.entries()) {
    expect(await service.unwrap(id, wrapped[index] ?? new Uint8Array())).toBe(id);
  }
  // What verified before verifies now, under the new generation alone.
  await verifyLogKeys(service.root.mac, await store.logKeys.read());
  expect((await governance().policies.inForce('default')).revision).toBeGreaterThan(0);
  const rows = await store.roots.generations();
  expect(rows.map(({ state }) => state)).toEqual(['retiring', 'in-force']);
  expect(rows[0]?.kept?.value.generation).toBe(2);
}, 60_000);

const retire = (generation: number) =>
  commitRetirement(service.governing, grantOf('root.retire'), generation);

it('the database refuses to retire what something refers to, and retires what nothing does', async () => {
  await withClient(database.ownerUrl, async (owner) => {
    await owner.query(`update public.key set mac = substring(mac from 5) where name =
      (select name from public.key order by name limit 1)`);
  });
  expect(await codeOf(retire(1))).toBe('conflict');
  await withClient(database.ownerUrl, async (owner) => {
    await owner.query(`update public.key set mac = '\\x00000002'::bytea || mac
      where octet_length(mac) = 32`);
  });
  // The one in force is never retired.
  expect(await codeOf(retire(2))).toBe('conflict');
  await retire(1);
  const rows = await store.roots.generations();
  expect(rows.map(({ state }) => state)).toEqual(['retired', 'in-force']);
  const [change] = (await store.audit.changesSince(service.epoch.current - 1)).slice(-1);
  expect(change?.keyName).toBe(retiredName(1));
});

it('starts without the old generation on the token, and finds values of old entries as before', async () => {
  const value = await service.root.valueMac(Buffer.from('value'));
  device.token.roots.delete(`${INSTALLATION}/1`);
  const next = await openStoredInstance(store, { hsm: watchedHsm(device.token).hsm });
  expect(next.root.generations).toEqual([2]);
  expect(await next.root.valueMac(Buffer.from('value'))).toEqual(value);
  const { items } = await next.keyring.read.list(next.grant('keys.list', null), {
    ...{ pageSize: 10, afterName: null, namePrefix: null, labels: {}, suite: null, state: null },
  });
  expect(items.length).toBeGreaterThan(0);
  await next.stop();
});
