import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { StaleAnswer } from '../../src/audit/ports.ts';
import type { ChangeDone } from '../../src/keyring/operations.ts';
import { aKey, aRun, codeOf, openWorld, SIGN_SUITES, WRAP_SUITES, toSuite } from './world.ts';
import type { Instance, World } from './world.ts';

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(async () => {
  expect(await world.store.audit.verify()).toEqual([]);
  await world.stop();
});

const create = (input = {}, run = {}, by: Instance = world) => {
  const key = aKey(input);
  return by.keyring.manage.create(by.grant('keys.create', key.name), key, aRun(run));
};
const rotate = (key: string, suite?: string, run = {}, by: Instance = world) =>
  by.keyring.manage.rotate(by.grant('keys.rotate', key), toSuite(suite), aRun(run));
const update = (
  key: string,
  input: Parameters<World['keyring']['manage']['update']>[1],
  run = {},
) => world.keyring.manage.update(world.grant('keys.update', key), input, aRun(run));
const suspend = (key: string, run = {}, by: Instance = world) =>
  by.keyring.manage.suspend(by.grant('keys.suspend', key), { reason: 'incident' }, aRun(run));
const resume = (key: string, run = {}) =>
  world.keyring.manage.resume(world.grant('keys.resume', key), { reason: 'over' }, aRun(run));
const onVersion = (what: 'suspendVersion' | 'resumeVersion', key: string, version: number) =>
  what === 'suspendVersion'
    ? world.keyring.manage.suspendVersion(
        world.grant('versions.suspend', key),
        { version, reason: 'r' },
        aRun(),
      )
    : world.keyring.manage.resumeVersion(
        world.grant('versions.resume', key),
        { version, reason: 'r' },
        aRun(),
      );
const read = (key: string) => world.keyring.read.get(world.grant('keys.read', key));
const idempotency = (key: string, hash = 1) => ({
  idempotency: { key, requestHash: new Uint8Array(32).fill(hash) },
});
/** Operations of the change lane's entries, opening entries left out. */
const entries = () =>
  world.store.audit
    .all()
    .map(({ body }) => decodeEntry(body))
    .filter(({ operation }) => /^(keys|versions)\./.test(operation));

describe('create', () => {
  it.each([...WRAP_SUITES, ...SIGN_SUITES, 'HS256'])(
    'makes a key of %s that can be used',
    async (suite) => {
      const name = `k-${suite.toLowerCase()}`;
      const { change, auditId } = await create({ name, suite, labels: { b: '1', a: '2' } });
      expect(change).toMatchObject({ before: null, changes: true, used: { key: name, suite } });
      const { key, versions } = await read(name);
      expect(key).toMatchObject({
        name,
        namespace: 'default',
        primary: 1,
        latestVersion: 1,
        revision: 1,
        labels: { a: '2', b: '1' },
        suspension: null,
      });
      expect(versions.map(({ state }) => state)).toEqual(['active']);
      const [entry] = entries();
      expect(entries()).toHaveLength(1);
      expect(`${entry?.lane}-${entry?.n}`).toBe(auditId);
      expect(entry).toMatchObject({
        operation: 'keys.create',
        keyId: key.id,
        outcome: 'ok',
        detail: {
          suite,
          version: 1,
          name,
          purpose: key.purpose,
          labelNames: '["a","b"]',
          deletionProtection: false,
          keyRevision: 1,
          versionRevision: 1,
        },
      });
    },
  );

  it.each<[string, object, string]>([
    ['a bad name', { name: 'A' }, 'invalid_value'],
    ['a UUID as name', { name: '7d3f1c52-8a35-4b0f-9c53-2f6f7a1e2b90' }, 'invalid_value'],
    ['a bad label', { labels: { a: 'x\0' } }, 'invalid_value'],
    ['a purpose of another suite', { purpose: 'sign' }, 'wrong_purpose'],
    [
      'a wrapped X25519 half',
      { suite: 'MLKEM768-X25519', custody: 'hsm-wrapped' },
      'suite_unavailable_here',
    ],
  ])('refuses %s and makes nothing', async (_name, input, code) => {
    expect(await codeOf(create(input))).toBe(code);
    expectNothingMade();
  });

  it('refuses a suite that this token or a live instance cannot serve', async () => {
    world.store.unread.add(0x0301);
    expect(await codeOf(create({ suite: 'A256GCM' }))).toBe('suite_unavailable_here');
    expectNothingMade();
    const lacking = await openWorld({ lacks: ['ecdh:P-384'] });
    expect(await codeOf(lacking.create({ suite: 'MLKEM1024-P384' }))).toBe(
      'suite_unavailable_here',
    );
    expect(await codeOf(lacking.create({ suite: 'MLKEM768-P256' }))).toBe('no error');
    await lacking.stop();
  });

  it('keeps private keys on a token that wraps none, where the request says so', async () => {
    const lacking = await openWorld({ lacks: ['wrap:ec'] });
    const suite = 'MLKEM768-P256';
    expect(await codeOf(lacking.create({ suite }))).toBe('suite_unavailable_here');
    expect(lacking.store.rows.keys.size).toBe(0);
    expect(await codeOf(lacking.create({ suite, custody: 'hsm-token' }))).toBe('no error');
    expect(lacking.device.token.objects.size).toBe(1);
    expect(await codeOf(lacking.create({ suite: 'A256GCM', name: 'other' }))).toBe('no error');
    await lacking.stop();
  });

  it('refuses a name that is taken, also by a destroyed key, and by one that is being made', async () => {
    const id = await world.create({ name: 'taken' });
    expect(await codeOf(create({ name: 'taken' }))).toBe('key_exists');
    const row = world.store.rows.keys.get(id);
    if (row !== undefined) {
      world.store.rows.keys.set(id, { ...row, value: { ...row.value, destroyedAt: new Date() } });
    }
    expect(await codeOf(create({ name: 'taken' }))).toBe('name_retired');
    const outcomes = await Promise.allSettled([1, 2, 3].map(() => create({ name: 'raced' })));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    const others = outcomes.flatMap((outcome) =>
      outcome.status === 'rejected' ? [outcome.reason as unknown] : [],
    );
    expect(others.every((reason) => reason instanceof StaleAnswer)).toBe(true);
  });

  const expectNothingMade = () => {
    expect(world.store.rows.keys.size).toBe(0);
    expect(world.store.rows.intents.size).toBe(0);
    expect(world.device.token.objects.size).toBe(0);
    expect(entries()).toEqual([]);
  };
});

describe('rotate', () => {
  it('never leaves a key less protected from a quantum computer', async () => {
    const [wrap, sign] = [
      await world.create(),
      await world.create({ suite: 'MLDSA65-ECDSA-P256-SHA512' }),
    ];
    expect(await codeOf(rotate(wrap, 'RSA-OAEP-2048-SHA256'))).toBe('suite_unavailable_here');
    expect(await codeOf(rotate(sign, 'ECDSA-P256-SHA256'))).toBe('suite_unavailable_here');
    expect((await rotate(wrap, 'ML-KEM-768')).status).toBe(200);
    const classical = await world.create({ suite: 'DHKEM-P256' });
    expect((await rotate(classical, 'DHKEM-P384')).status).toBe(200);
    expect((await rotate(classical, 'MLKEM768-P256')).status).toBe(200);
    expect(await codeOf(rotate(classical, 'DHKEM-P256'))).toBe('suite_unavailable_here');
  });

  it('that takes long is overtaken by a suspension, and adds nothing', async () => {
    const id = await world.create();
    const making = Promise.withResolvers<undefined>();
    const begun = Promise.withResolvers<undefined>();
    world.device.meanwhile = async (call) => {
      if (call !== 'generate') return;
      begun.resolve(undefined);
      await making.promise;
    };
    const ended = Promise.withResolvers<undefined>();
    const rotating = rotate(id, undefined, { ended: ended.promise });
    const outcome = expect(rotating).rejects.toBeInstanceOf(StaleAnswer);
    await begun.promise;
    const { change } = await suspend(id);
    expect(change?.after.key.suspension).not.toBeNull();
    making.resolve(undefined);
    await outcome;
    ended.resolve(undefined);
    const { key, versions } = await read(id);
    expect([key.latestVersion, versions.length]).toEqual([1, 1]);
    expect(await codeOf(rotate(id))).toBe('version_not_usable');
  });

  it('adds a version, makes it primary, and keeps the suite and custody unless told otherwise', async () => {
    const id = await world.create({ custody: 'hsm-token' });
    const before = await read(id);
    const { change } = await rotate(id);
    expect(change?.before).toEqual(before);
    const [first, second] = (await read(id)).versions;
    expect(first).toEqual(before.versions[0]);
    expect(custodyOf(second)).toBe('hsm-token');
    await rotate(id, 'MLKEM1024-P384');
    const { key, versions } = await read(id);
    expect(key).toMatchObject({ primary: 3, latestVersion: 3, revision: 3 });
    expect(custodyOf(versions[2])).toBe('hsm-wrapped');
    await rotate(id, 'MLKEM768-X25519');
    await rotate(id);
    expect((await read(id)).versions.map(custodyOf).slice(3)).toEqual(['hsm-token', 'hsm-token']);
  });

  it('refuses another purpose, a suspended key, and a key that is not there', async () => {
    const id = await world.create();
    expect(await codeOf(rotate(id, 'HS256'))).toBe('wrong_purpose');
    expect(await codeOf(rotate('no-such-key'))).toBe('key_not_found');
    await suspend(id);
    expect(await codeOf(rotate(id))).toBe('version_not_usable');
    expect((await read(id)).versions).toHaveLength(1);
  });

  it('by two instances at once gives one of them the version, and takes no material from it', async () => {
    const other = await world.second();
    const id = await world.create({ suite: 'MLKEM768-X25519' });
    await other.unwrap(id, await world.wrap(id, 'x'));
    const outcomes = await Promise.allSettled([rotate(id), rotate(id, undefined, {}, other)]);
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect((await read(id)).key.latestVersion).toBe(2);
    expect(world.device.token.objects.size).toBe(2);
    expect(world.store.rows.intents.size).toBe(0);
    expect(await world.unwrap(id, await world.wrap(id, 'still'))).toBe('still');
  });

  const custodyOf = (version: { state: string } | undefined): string | undefined =>
    (version as { material?: { classical?: { hsm: { custody: string } } } } | undefined)?.material
      ?.classical?.hsm.custody;
});

describe('update', () => {
  it('merges labels, and says when nothing changed, whatever the order of labels', async () => {
    const id = await world.create({ labels: { long: '1', b: '2' } });
    expect((await update(id, { labels: { b: '2', long: '1' } })).change?.changes).toBe(false);
    expect((await update(id, {})).change?.changes).toBe(false);
    expect((await read(id)).key.revision).toBe(1);
    const changed = await update(id, { labels: { b: null, c: '3' }, deletionProtection: true });
    expect(changed.change?.changes).toBe(true);
    expect((await read(id)).key).toMatchObject({
      labels: { c: '3', long: '1' },
      deletionProtection: true,
      revision: 2,
    });
    const { detail } = changed.change ?? {};
    expect(detail).toEqual({ deletionProtection: true, labelNames: '["c","long"]' });
    expect(await codeOf(update(id, { labels: { d: 'x\n' } }))).toBe('invalid_value');
  });

  it('holds an If-Match to the revision', async () => {
    const id = await world.create();
    expect(await codeOf(update(id, { deletionProtection: true }, { ifMatch: 2 }))).toBe(
      'etag_mismatch',
    );
    expect(await codeOf(update(id, { deletionProtection: true }, { ifMatch: 1 }))).toBe('no error');
  });
});

describe('suspend and resume', () => {
  it('of a key are idempotent, audited each time, and refuse a bad reason', async () => {
    const id = await world.create();
    const done: ChangeDone[] = [
      await suspend(id),
      await suspend(id),
      await resume(id),
      await resume(id),
    ];
    expect(done.map(({ change }) => change?.changes)).toEqual([true, false, true, false]);
    expect(new Set(done.map(({ auditId }) => auditId)).size).toBe(4);
    expect((await read(id)).key).toMatchObject({ suspension: null, revision: 3 });
    const bad = world.keyring.manage.suspend(
      world.grant('keys.suspend', id),
      { reason: '' },
      aRun(),
    );
    expect(await codeOf(bad)).toBe('invalid_value');
    expect(entries().map(({ operation }) => operation)).toEqual([
      'keys.create',
      'keys.suspend',
      'keys.suspend',
      'keys.resume',
      'keys.resume',
    ]);
  });

  it('of a version follow the lifecycle and protect the primary', async () => {
    const id = await world.create();
    expect(await codeOf(onVersion('suspendVersion', id, 1))).toBe('primary_protected');
    expect(await codeOf(onVersion('suspendVersion', id, 2))).toBe('version_not_found');
    await rotate(id);
    expect((await onVersion('suspendVersion', id, 1)).change?.changes).toBe(true);
    expect((await onVersion('suspendVersion', id, 1)).change?.changes).toBe(false);
    const { key, versions } = await read(id);
    expect([key.revision, versions[0]?.state, versions[0]?.revision]).toEqual([3, 'suspended', 2]);
    expect((await onVersion('resumeVersion', id, 1)).change?.changes).toBe(true);
    expect((await onVersion('resumeVersion', id, 1)).change?.changes).toBe(false);
    expect((await read(id)).versions[0]?.state).toBe('active');
  });

  it('drop the unwrapped handles of the key', async () => {
    const id = await world.create();
    await world.unwrap(id, await world.wrap(id, 'x'));
    world.device.forgotten.length = 0;
    await suspend(id);
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    expect(world.device.forgotten).toContain(`${id}/1`);
    expect(world.keyring.sizes()).toEqual({ keys: 0, unsealed: 0 });
  });
});

describe('a dry run', () => {
  it('checks everything and changes nothing', async () => {
    const id = await world.create();
    await rotate(id);
    const before = structuredClone([...world.store.rows.keys, ...world.store.rows.versions]);
    const written = entries().length;
    const { epoch } = world.store.audit;
    world.device.calls.length = 0;
    const dry = { dryRun: true, ...idempotency('dry') };
    const runs = [
      await create({ name: 'dry' }, dry),
      await create({ name: 'dry', suite: 'MLKEM768-X25519' }, dry),
      await rotate(id, undefined, dry),
      await update(id, { labels: { a: '1' } }, dry),
      await suspend(id, dry),
    ];
    expect(runs.every(({ auditId, replayed }) => auditId === null && !replayed)).toBe(true);
    expect(runs[2]?.change?.after.key.latestVersion).toBe(3);
    expect(runs[4]?.change?.after.key.suspension).not.toBeNull();
    expect([...world.store.rows.keys, ...world.store.rows.versions]).toEqual(before);
    expect([entries().length, world.store.audit.epoch]).toEqual([written, epoch]);
    expect([world.store.rows.intents.size, world.store.rows.idempotency.size]).toEqual([0, 0]);
    expect(world.device.calls.filter((call) => call !== 'mac')).toEqual([]);
    expect(await codeOf(create({ name: 'A' }, dry))).toBe('invalid_value');
    expect(await codeOf(rotate('no-such-key', undefined, dry))).toBe('key_not_found');
  });
});

describe('an idempotency key', () => {
  it.each([
    { principal: new Uint8Array(32) },
    { key: 'i-2' },
    { requestHash: new Uint8Array(32).fill(2) },
    { status: 202 },
    { body: '{"id":"another"}' },
    { auditId: '9-9' },
  ])('answers nothing from a record that was altered: %j', async (change) => {
    await create({ name: 'once' }, idempotency('i-1'));
    const records = world.store.rows.idempotency;
    for (const [slot, { value, mac }] of records) {
      records.set(slot, { value: { ...value, ...change }, mac });
    }
    const repeat = create({ name: 'once' }, idempotency('i-1'));
    expect(await codeOf(repeat)).toBe('integrity_failed');
    expect(world.keyring.integrity.altered).toBe(1);
  });

  it('answers the repeated request as the first one was, and does nothing', async () => {
    const key = aKey({ name: 'once' });
    const run = aRun(idempotency('i-1'));
    const grant = () => world.grant('keys.create', key.name);
    const first = await world.keyring.manage.create(grant(), key, run);
    const again = await world.keyring.manage.create(grant(), key, run);
    const { status, body, auditId } = first;
    expect(again).toEqual({ change: null, status, body, auditId, replayed: true });
    expect(world.store.rows.keys.size).toBe(1);
    expect(entries()).toHaveLength(1);
  });

  it('names one content, one principal and one namespace', async () => {
    await create({ name: 'a' }, idempotency('i-1', 1));
    expect(await codeOf(create({ name: 'b' }, idempotency('i-1', 2)))).toBe('idempotency_mismatch');
    expect(await codeOf(create({ name: 'c' }, idempotency('i-2', 2)))).toBe('no error');
    expect(world.store.rows.keys.size).toBe(2);
  });

  it('of a request under way lets one take effect', async () => {
    const id = await world.create();
    const other = await world.second();
    const run = idempotency('i-1');
    const outcomes = await Promise.allSettled([
      rotate(id, undefined, run),
      rotate(id, undefined, run),
      rotate(id, undefined, run, other),
    ]);
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect((await read(id)).key.latestVersion).toBe(2);
    expect(await rotate(id, undefined, run)).toMatchObject({ replayed: true });
  });

  it('is not taken by a change that failed', async () => {
    const id = await world.create();
    world.store.fault = (call) => (call === 'commit' ? 'before' : 'none');
    expect(await codeOf(rotate(id, undefined, idempotency('i-1')))).toBe('database_unavailable');
    world.store.fault = () => 'none';
    expect(await rotate(id, undefined, idempotency('i-1'))).toMatchObject({ replayed: false });
  });
});
