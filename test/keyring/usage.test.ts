import { describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import { GCM_LIMIT, UsageCounters } from '../../src/keyring/usage.ts';
import { codeOf } from './world.ts';

/** The database's counter, with what it was asked for. */
class Counters {
  readonly used = new Map<string, number>();
  readonly blocks: number[] = [];
  fails = 0;

  async reserveUses(counter: string, block: number) {
    await new Promise((resolve) => setImmediate(resolve));
    if (this.fails > 0) {
      this.fails -= 1;
      throw new TwofoldError('database_unavailable');
    }
    const first = this.used.get(counter) ?? 0;
    this.used.set(counter, first + block);
    this.blocks.push(block);
    return [first, block] as const;
  }
}

const times = <T>(count: number, work: (index: number) => Promise<T>) =>
  Promise.all(Array.from({ length: count }, (_, index) => work(index)));

describe('counting', () => {
  it('gives each use its own number, also when two instances count at once', async () => {
    const store = new Counters();
    const instances = [new UsageCounters(store), new UsageCounters(store)];
    const numbers = await times(
      2000,
      (index) => instances[index % 2]?.count('k') ?? Promise.reject(new Error()),
    );
    expect(new Set(numbers).size).toBe(2000);
    expect(store.used.get('k')).toBeGreaterThanOrEqual(2000);
  });

  it('reserves growing blocks, each before its first use', async () => {
    const store = new Counters();
    const counters = new UsageCounters(store);
    for (let use = 0; use < 100_000; use += 1) {
      expect(await counters.count('k')).toBe(use);
      if (use >= (store.used.get('k') ?? 0)) throw new Error('used before it was reserved');
    }
    expect(store.blocks.slice(0, 10)).toEqual([8, 8, 8, 8, 8, 8, 8, 8, 8, 9]);
    expect(Math.max(...store.blocks)).toBeLessThanOrEqual(100_000 / 8);
    expect(store.blocks.length).toBeLessThan(100);
  });

  it('counts at most an eighth more than there was, and eight', async () => {
    const store = new Counters();
    const counters = new UsageCounters(store);
    for (let use = 1; use <= 5_000; use += 1) {
      await counters.count('k');
      const over = (store.used.get('k') ?? 0) - use;
      if (over > Math.max(use / 8, 8)) throw new Error(`${over} too many after ${use}`);
    }
  });

  it('reserves the uses of a batch at once', async () => {
    const store = new Counters();
    expect(await new UsageCounters(store).permitGcm('k', 1_000)).toBe(1_000);
    expect(store.blocks).toEqual([1_000]);
  });

  it('after a crash goes on above every use that was made', async () => {
    const store = new Counters();
    const before = new UsageCounters(store);
    const last = (await times(70, () => before.count('k'))).at(-1) ?? 0;
    expect(await new UsageCounters(store).count('k')).toBeGreaterThan(last);
  });

  it('fails all who wait for a reservation that fails, and then works again', async () => {
    const store = new Counters();
    store.fails = 1;
    const counters = new UsageCounters(store);
    const codes = await times(10, () => codeOf(counters.count('k')));
    expect(new Set(codes)).toEqual(new Set(['database_unavailable']));
    expect(await counters.count('k')).toBe(0);
  });

  it('holds few counters; one that was given up counts its rest as used', async () => {
    const store = new Counters();
    const counters = new UsageCounters(store, 3);
    const seen = new Set<string>();
    for (let round = 0; round < 4; round += 1) {
      for (const counter of ['a', 'b', 'c', 'd', 'e']) {
        const use = `${counter}/${await counters.count(counter)}`;
        expect(seen.has(use)).toBe(false);
        seen.add(use);
        expect(counters.size).toBeLessThanOrEqual(3);
      }
    }
    expect(await counters.count('e')).toBe(4 * 8 - 7);
  });
});

describe('AES-GCM under one key (SP 800-38D section 8.3)', () => {
  it('ends at 2^32 uses exactly, for every instance', async () => {
    const store = new Counters();
    store.used.set('k', GCM_LIMIT - 70);
    const counters = new UsageCounters(store);
    const codes = await times(80, () => codeOf(counters.countGcm('k')));
    expect(codes.filter((code) => code === 'no error')).toHaveLength(70);
    expect(codes.filter((code) => code === 'version_not_usable')).toHaveLength(10);
    expect(await codeOf(new UsageCounters(store).countGcm('k'))).toBe('version_not_usable');
    expect(await codeOf(counters.countGcm('other'))).toBe('no error');
  });
});
