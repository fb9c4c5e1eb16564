/** Published keys as the instances of a zone see them. */
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { aRun, codeOf, openWorld } from './world.ts';
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
