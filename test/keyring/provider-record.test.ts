import { afterEach, describe, expect, test } from '@jest/globals';

import type { Suite } from '../../src/crypto/suite.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import {
  formatRecord,
  parseRecord,
  providerLabel,
  recordsOf,
  requireNotHeld,
} from '../../src/keyring/provider-record.ts';
import { aRun, codeOf, openWorld } from './world.ts';
import type { World } from './world.ts';

const LABEL = providerLabel('c1');
const PROOF = 'A'.repeat(43);
const record = (announced: number, retired = 0, proof: string | null = null) =>
  formatRecord({ provider: 'twofold', announced, retired, proof });

async function update(world: World, labels: Record<string, string | null>, announcing = false) {
  const grant = world.grant('keys.update', 'k');
  return world.keyring.manage.update(grant, { labels, announcing }, aRun());
}

const rotate = (world: World) =>
  world.keyring.manage.rotate(world.grant('keys.rotate', 'k'), {}, aRun());

async function withRecord(versions = 1): Promise<World> {
  const world = await openWorld();
  await world.create({ name: 'k', suite: 'A256GCM' });
  await update(world, { [LABEL]: record(1) });
  for (let n = 1; n < versions; n += 1) await rotate(world);
  return world;
}

/** A run with the key's revision, which acts that destroy ask for. */
async function matched(world: World) {
  const { key } = await world.keyring.read.fresh(world.grant('keys.read', 'k'));
  return aRun({ ifMatch: key.revision });
}

/** Deactivated first, as an active version cannot be destroyed. */
async function deactivate(world: World, version: number): Promise<void> {
  const grant = world.grant('versions.deactivate', 'k');
  const input = { version, reason: 'a test' };
  await world.keyring.lifecycle.deactivateVersion(grant, input, aRun());
}

const destroyed = async (world: World, version: number) =>
  world.keyring.lifecycle.scheduleVersionDestruction(
    world.grant('versions.schedule-destruction', 'k'),
    { version, reason: 'a test' },
    await matched(world),
  );

test('a record is read as it was written, and nothing else is one', () => {
  for (const text of [record(1), record(7), record(7, 6, PROOF), record(7, 7, PROOF)]) {
    expect(formatRecord(parseRecord(text))).toBe(text);
  }
  const others = [
    '',
    'x',
    'provider= announced=1',
    'provider=a announced=0',
    'provider=a announced=01',
  ];
  for (const text of [
    ...others,
    'provider=a announced=2 retired=1',
    record(2, 3, PROOF),
    `${record(1)} `,
  ]) {
    expect(() => parseRecord(text)).toThrow();
  }
});

test('a stored record that retires what it never announced keeps nobody from anything but destruction', () => {
  const labels = { 'kubernetes/c1': `provider=p announced=1 retired=2 proof=${'A'.repeat(43)}` };
  expect(recordsOf(labels).get('c1')).toMatchObject({ announced: 1, retired: 0, proof: null });
  expect(() => {
    requireNotHeld({ labels }, 1);
  }).toThrow(expect.objectContaining({ code: 'deletion_protected' }));
});

test('a key begins without a provider, and a provider with the primary version', async () => {
  const world = await openWorld();
  expect(await codeOf(world.create({ labels: { [LABEL]: record(1) } }))).toBe('invalid_value');
  await world.create({ name: 'k', suite: 'A256GCM' });
  for (const text of [record(2), 'anything', record(3, 1, PROOF)]) {
    expect(await codeOf(update(world, { [LABEL]: text }))).toBe('invalid_value');
  }
  expect(await codeOf(update(world, { 'kubernetes/-c': record(1) }))).toBe('invalid_value');
  expect(await codeOf(update(world, { [LABEL]: record(1) }))).toBe('no error');
  await world.stop();
});

test('only the service announces, and nobody takes it back', async () => {
  const world = await withRecord(3);
  expect(await codeOf(update(world, { [LABEL]: record(2) }))).toBe('invalid_value');
  expect(await codeOf(update(world, { [LABEL]: record(4) }, true))).toBe('invalid_value');
  await update(world, { [LABEL]: record(3) }, true);
  for (const announcing of [false, true]) {
    expect(await codeOf(update(world, { [LABEL]: record(2) }, announcing))).toBe('invalid_value');
  }
  const other = formatRecord({ provider: 'other', announced: 3, retired: 0, proof: null });
  expect(await codeOf(update(world, { [LABEL]: other }))).toBe('invalid_value');
  await world.stop();
});

test('what is retired stays so, by a proof of its own', async () => {
  const world = await withRecord(3);
  await update(world, { [LABEL]: record(3) }, true);
  expect(await codeOf(update(world, { [LABEL]: record(3, 4, PROOF) }))).toBe('invalid_value');
  // Not with an announcement.
  expect(await codeOf(update(world, { [LABEL]: record(3, 2, PROOF) }, true))).toBe('invalid_value');
  await update(world, { [LABEL]: record(3, 2, PROOF) });
  expect(await codeOf(update(world, { [LABEL]: record(3, 1, PROOF) }))).toBe('invalid_value');
  expect(await codeOf(update(world, { [LABEL]: record(3) }))).toBe('invalid_value');
  expect(await codeOf(update(world, { [LABEL]: record(3, 2, 'B'.repeat(43)) }))).toBe(
    'invalid_value',
  );
  await world.stop();
});

test('a key of a provider, and a version that is not retired, are under deletion protection', async () => {
  const world = await withRecord(3);
  const { manage, lifecycle } = world.keyring;
  const window = (minUsableVersion: number) =>
    manage.update(world.grant('keys.update', 'k'), { minUsableVersion }, aRun());
  const retire = (version: number) =>
    manage.retireVersion(
      world.grant('versions.retire', 'k'),
      { version, reason: 'a test' },
      aRun(),
    );
  const key = async () =>
    lifecycle.scheduleDestruction(
      world.grant('keys.schedule-destruction', 'k'),
      { reason: 'a test' },
      await matched(world),
    );
  expect(await codeOf(key())).toBe('deletion_protected');
  for (const act of [() => destroyed(world, 1), () => window(2), () => retire(1)]) {
    expect(await codeOf(act())).toBe('deletion_protected');
  }
  await update(world, { [LABEL]: record(3) }, true);
  await update(world, { [LABEL]: record(3, 1, PROOF) });
  expect(await codeOf(destroyed(world, 2))).toBe('deletion_protected');
  expect(await codeOf(window(3))).toBe('deletion_protected');
  expect(await codeOf(window(2))).toBe('no error');
  await deactivate(world, 1);
  expect(await codeOf(destroyed(world, 1))).toBe('no error');
  expect(await codeOf(key())).toBe('deletion_protected');
  expect(await codeOf(update(world, { [LABEL]: null }))).toBe('deletion_protected');
  await update(world, { [LABEL]: record(3, 3, PROOF) });
  expect(await codeOf(key())).toBe('no error');
  await world.stop();
});

test('a record outlives its provider: nothing that was announced or retired comes back', async () => {
  const world = await withRecord(3);
  await update(world, { [LABEL]: record(3) }, true);
  const { key } = await world.keyring.read.fresh(world.grant('keys.read', 'k'));
  for (const change of [{ [LABEL]: null }, { [LABEL]: null, other: 'x' }]) {
    for (const announcing of [false, true]) {
      expect(await codeOf(update(world, change, announcing))).toBe('deletion_protected');
    }
  }
  await update(world, { [LABEL]: record(3, 3, PROOF) });
  expect(await codeOf(update(world, { [LABEL]: null }))).toBe('deletion_protected');
  // An earlier version, put back as the primary one, is no new beginning.
  const back = { version: 2, reason: 'a test', acceptQuantumVulnerable: false };
  await world.keyring.manage.setPrimary(world.grant('keys.set-primary', 'k'), back, aRun());
  const other = formatRecord({ provider: 'other', announced: 4, retired: 3, proof: PROOF });
  const refused = [record(2), record(3), record(3, 2, PROOF), record(4), record(4, 2, PROOF)];
  for (const text of [...refused, other]) {
    for (const announcing of [false, true]) {
      expect(await codeOf(update(world, { [LABEL]: text }, announcing))).toBe('invalid_value');
    }
  }
  await rotate(world);
  for (const text of [...refused, other, record(4, 3, 'B'.repeat(43))]) {
    expect(await codeOf(update(world, { [LABEL]: text }))).toBe('invalid_value');
  }
  await update(world, { [LABEL]: record(4, 3, PROOF) });
  expect(await codeOf(destroyed(world, 4))).toBe('deletion_protected');
  const after = await world.keyring.read.fresh(world.grant('keys.read', 'k'));
  expect(after.key.labels).toEqual({ ...key.labels, [LABEL]: record(4, 3, PROOF) });
  await world.stop();
});

test('a version whose destruction is due stays while a provider that came later holds it', async () => {
  let now = new Date();
  const world = await openWorld({ clock: () => now });
  await world.create({ name: 'k', suite: 'A256GCM' });
  await rotate(world);
  await deactivate(world, 1);
  await destroyed(world, 1);
  await update(world, { [LABEL]: record(2) });
  now = new Date(now.getTime() + 400 * 86_400_000);
  const run = world.keyring.lifecycle.destroyVersion(
    world.grant('versions.destroy', 'k'),
    { version: 1 },
    aRun(),
  );
  expect(await codeOf(run)).toBe('deletion_protected');
  await world.stop();
});

describe('suites that no provider seals with', () => {
  const OTHER = findSuite('ML-KEM-768');
  let world: World;
  const create = async (suite: string): Promise<void> => {
    world = await openWorld();
    await world.create({ name: 'k', suite });
  };
  const rotateTo = (suite: Suite) =>
    world.keyring.manage.rotate(world.grant('keys.rotate', 'k'), { suite }, aRun());
  const setPrimary = (version: number) => {
    const input = { version, reason: 'a test', acceptQuantumVulnerable: false };
    return world.keyring.manage.setPrimary(world.grant('keys.set-primary', 'k'), input, aRun());
  };
  afterEach(() => world.stop());

  test.each(['ML-KEM-768', 'DHKEM-P256'])('a key of %s gets no provider', async (suite) => {
    await create(suite);
    expect(await codeOf(update(world, { [LABEL]: record(1) }))).toBe('wrong_purpose');
  });

  test('a key that serves a provider is not rotated to one', async () => {
    await create('MLKEM768-P256');
    await update(world, { [LABEL]: record(1) });
    expect(await codeOf(rotateTo(OTHER))).toBe('wrong_purpose');
    expect(await codeOf(rotateTo(findSuite('MLKEM1024-P384')))).toBe('no error');
    expect(await codeOf(update(world, { [LABEL]: record(2) }, true))).toBe('no error');
  });

  test('nor is such a version, made before, put first or announced', async () => {
    await create('MLKEM768-P256');
    await rotateTo(OTHER);
    await setPrimary(1);
    await update(world, { [LABEL]: record(1) });
    expect(await codeOf(setPrimary(2))).toBe('wrong_purpose');
    expect(await codeOf(update(world, { [LABEL]: record(2) }, true))).toBe('wrong_purpose');
  });

  test('once the provider has ended, the key is as free as any', async () => {
    await create('MLKEM768-P256');
    await update(world, { [LABEL]: record(1) });
    await update(world, { [LABEL]: record(1, 1, PROOF) });
    expect(await codeOf(rotateTo(OTHER))).toBe('no error');
    expect(await codeOf(update(world, { [LABEL]: record(2, 1, PROOF) }))).toBe('wrong_purpose');
  });
});
