import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { inTurns } from '../../src/keyring/in-turns.ts';
import { aRun, openWorld } from './world.ts';
import type { World } from './world.ts';

let world: World;
const NAMES = Array.from({ length: 25 }, (_, index) => `list-${String(index).padStart(2, '0')}`);
beforeAll(async () => {
  world = await openWorld();
  for (const name of NAMES) await world.create({ name, suite: 'A256GCM' });
});
afterAll(() => world.stop());

const ALL = { afterName: null, namePrefix: null, labels: {}, suite: null, state: null };
const list = (query: Partial<Parameters<World['keyring']['read']['list']>[1]>) =>
  world.keyring.read.list(world.grant('keys.list', null), { ...ALL, pageSize: 10, ...query });

describe('list', () => {
  it.each([1, 7, 24, 25, 26, 1000])(
    'in pages of %s gives each key once, in order of names',
    async (pageSize) => {
      const found: string[] = [];
      for (let afterName: string | null = null; ;) {
        const { items, nextName } = await list({ pageSize, afterName });
        expect(items.length).toBeLessThanOrEqual(pageSize);
        found.push(...items.map(({ key }) => key.name));
        if (nextName === null) break;
        expect(nextName).toBe(found.at(-1));
        afterName = nextName;
      }
      expect(found).toEqual(NAMES);
    },
  );

  it('of a prefix', async () => {
    expect((await list({ namePrefix: 'list-1' })).items).toHaveLength(10);
    expect((await list({ namePrefix: 'none' })).items).toEqual([]);
  });

  it('asks the HSM for no row a second time, and for one that has changed', async () => {
    let asked = 0;
    world.device.meanwhile = () => {
      asked += 1;
      return Promise.resolve();
    };
    await list({ pageSize: 1000 });
    asked = 0;
    await list({ pageSize: 1000 });
    expect(asked).toBe(0);
    const [name = ''] = NAMES;
    await world.keyring.manage.suspend(world.grant('keys.suspend', name), { reason: 'r' }, aRun());
    asked = 0;
    const { items } = await list({ pageSize: 1 });
    expect([asked, items[0]?.key.suspension?.reason]).toEqual([1, 'r']);
    world.device.meanwhile = () => Promise.resolve();
  });

  it('asks the HSM for few MACs at a time', async () => {
    for (const name of ['new-1', 'new-2', 'new-3', 'new-4', 'new-5']) {
      await world.create({ name, suite: 'A256GCM' });
    }
    let [running, most] = [0, 0];
    world.device.meanwhile = async () => {
      most = Math.max(most, (running += 1));
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
    };
    await list({ pageSize: 1000 });
    world.device.meanwhile = () => Promise.resolve();
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(8);
  });
});

describe('inTurns', () => {
  it('answers in order, never more than so many at once, and takes no item', async () => {
    let [running, most] = [0, 0];
    const work = async (item: number) => {
      most = Math.max(most, (running += 1));
      await new Promise((resolve) => setTimeout(resolve, 10 - item));
      running -= 1;
      return item * 2;
    };
    expect(await inTurns([1, 2, 3, 4, 5, 6, 7], 3, work)).toEqual([2, 4, 6, 8, 10, 12, 14]);
    expect(most).toBe(3);
    expect(await inTurns([], 3, work)).toEqual([]);
  });

  it('begins nothing after a failure, and throws when what had begun has ended', async () => {
    const begun: number[] = [];
    const ended: number[] = [];
    const work = async (item: number) => {
      begun.push(item);
      await new Promise((resolve) => setTimeout(resolve, item === 1 ? 1 : 20));
      if (item === 1) throw new Error('first');
      ended.push(item);
    };
    await expect(inTurns([1, 2, 3, 4, 5, 6], 2, work)).rejects.toThrow('first');
    expect([begun, ended]).toEqual([[1, 2], [2]]);
  });
});
