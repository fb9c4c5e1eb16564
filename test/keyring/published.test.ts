/** Published keys as the instances of a zone see them. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Publication } from '../../src/keyring/published.ts';
import { aKey, aRun, codeOf, openWorld } from './world.ts';
import type { World } from './world.ts';

let world: World;
let id: string;
beforeEach(async () => {
  world = await openWorld();
  id = await world.create({ publish: true });
});
afterEach(() => world.stop());

const found = async ({ keyring }: Pick<World, 'keyring'>, ref = id) =>
  (await keyring.published.find('default', ref)).view;
const suspend = () =>
  world.keyring.manage.suspend(world.grant('keys.suspend', id), { reason: 'r' }, aRun());
const named = () => world.store.calls.filter((call) => call === 'published').length;

it('are shown by another instance until it learns of the change, and not after', async () => {
  const second = await world.second();
  expect((await found(second))?.key.id).toBe(id);
  await suspend();
  expect(await found(world)).toBeNull();
  // What it appends is refused under its old epoch, and so it learns.
  await second.audit.recordOwn('system.start', {});
  expect(second.epoch.current).toBe(world.epoch.current);
  expect(await found(second)).toBeNull();
});

it('are named once for however many ask, and once more after a change', async () => {
  const asked = Array.from({ length: 50 }, (_, n) => found(world, `none-${String(n)}`));
  expect(new Set(await Promise.all(asked))).toEqual(new Set([null]));
  expect(named()).toBe(1);
  await world.create();
  await found(world);
  await found(world);
  expect(named()).toBe(2);
});

it('are refused as a conflict when changes never let a reading end', async () => {
  world.store.meanwhile = async (call) => {
    if (call === 'published') await world.create();
  };
  expect(await codeOf(world.keyring.published.find('default', id))).toBe('conflict');
  world.store.meanwhile = () => Promise.resolve();
  expect(await found(world)).not.toBeNull();
});

it('are none while their names cannot be read, and are there again after', async () => {
  world.store.fault = (call) => (call === 'published' ? 'before' : 'none');
  expect(await codeOf(world.keyring.published.find('default', id))).toBe('database_unavailable');
  world.store.fault = () => 'none';
  expect(await found(world)).not.toBeNull();
});

describe('of several namespaces', () => {
  const createIn = async (namespace: string, publish = true) => {
    const key = aKey({ publish });
    const grant = world.grant('keys.create', key.name, namespace);
    await world.keyring.manage.create(grant, key, aRun());
    return key.name;
  };
  const publication = (limits: { perNamespace?: number; remembered?: number }) =>
    new Publication(world.store, { find: world.keyring.find }, world.epoch, limits);

  it('are found, however many another namespace has', async () => {
    for (let n = 0; n < 3; n += 1) await createIn('a');
    const name = await createIn('b');
    const { view } = await publication({ perNamespace: 2 }).find('b', name);
    expect(view?.key.name).toBe(name);
  });

  it('are named again after a change of their own namespace alone, and of any after one unknown', async () => {
    const name = await createIn('b');
    const ask = async () => {
      await found(world);
      expect((await world.keyring.published.find('b', name)).view?.key.name).toBe(name);
      expect((await world.keyring.published.find('b', 'none')).view).toBeNull();
    };
    await ask();
    expect(named()).toBe(2);
    await createIn('b', false);
    await ask();
    expect(named()).toBe(3);
    const unknown = { scope: 'key', namespace: '', keyId: null, keyName: null } as const;
    world.epoch.advance([{ ...unknown, epoch: world.epoch.current + 1 }]);
    world.store.audit.epoch = world.epoch.current;
    await ask();
    expect(named()).toBe(5);
  });

  it('are remembered for the namespaces last asked for, as many as there is room for', async () => {
    const names = [await createIn('a'), await createIn('b'), await createIn('c')] as const;
    // Each has one key.
    const shown = publication({ remembered: 3 });
    const ask = async (namespace: 'a' | 'b' | 'c') => {
      const before = named();
      const name = names['abc'.indexOf(namespace)] ?? '';
      expect((await shown.find(namespace, name)).view?.key.name).toBe(name);
      return named() - before;
    };
    for (const namespace of ['a', 'b'] as const) expect(await ask(namespace)).toBe(1);
    for (const namespace of ['b', 'a'] as const) expect(await ask(namespace)).toBe(0);
    expect(await ask('c')).toBe(1);
    expect(await ask('a')).toBe(0);
    expect(await ask('b')).toBe(1);
  });
});

it('are refused beyond the bound of their namespace, those suspended included', async () => {
  await world.stop();
  world = await openWorld({ mostPublished: 2 });
  const publish = (key: string, value = true) =>
    world.keyring.manage.update(world.grant('keys.update', key), { publish: value }, aRun());
  id = await world.create({ publish: true });
  await suspend();
  const [second, third] = [await world.create({ publish: true }), await world.create()];
  expect(await codeOf(publish(third))).toBe('quota_exceeded');
  expect(await codeOf(world.create({ publish: true }))).toBe('quota_exceeded');
  // What is published stays so, and may be changed.
  expect(await codeOf(publish(second))).toBe('no error');
  await publish(second, false);
  expect(await codeOf(publish(third))).toBe('no error');
});
