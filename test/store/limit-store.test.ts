/** Allowance in the real database, by its clock: over instances, restarts, changes and a clock set back. */
import { randomUUID } from 'node:crypto';
import { expect, it } from '@jest/globals';
import { Limiter } from '../../src/limits/limiter.ts';
import type { LeaseRequest } from '../../src/limits/ports.ts';
import { leaseOf, rateOf } from '../../src/limits/rate.ts';
import type { Limit } from '../../src/limits/rate.ts';
import { openStore } from '../../src/store/store.ts';
import { onEachMajor } from './majors.ts';
import { rowsAsOwner } from './owner.ts';
import { setWallClock } from './wall-clock.ts';

const START = Date.UTC(2030, 0, 1);

onEachMajor('allowance of rate limits', (test) => {
  const clock = (seconds: number) => setWallClock(test.database(), START + seconds * 1_000);
  const bucket = () => Buffer.from(`${randomUUID()}${randomUUID()}`).subarray(0, 32);
  const ask = async (over: Partial<LeaseRequest>) => {
    const request = { id: bucket(), owed: 0, wanted: 0, perSecond: 1, burst: 10, ...over };
    const [lease] = await test.store().limits.lease([request]);
    return [lease?.granted, lease?.available];
  };

  it('is granted until the bucket is empty, and again as it fills', async () => {
    const id = bucket();
    await clock(0);
    expect(await ask({ id, wanted: 7 })).toEqual([7, 3]);
    expect(await ask({ id, wanted: 7 })).toEqual([3, 0]);
    await clock(2);
    expect(await ask({ id, wanted: 7 })).toEqual([2, 0]);
    await clock(1);
    expect(await ask({ id, wanted: 7 })).toEqual([0, 0]);
    await clock(100);
    expect(await ask({ id, wanted: 70 })).toEqual([10, 0]);
  });

  it('that was used on credit is charged, and what comes back is there', async () => {
    const id = bucket();
    await clock(0);
    expect(await ask({ id, owed: 25 })).toEqual([0, -15]);
    await clock(14);
    expect(await ask({ id, wanted: 1 })).toEqual([0, -1]);
    expect(await ask({ id, owed: -3, wanted: 1 })).toEqual([1, 1]);
    expect(await ask({ id, owed: -300 })).toEqual([0, 10]);
  });

  it('of a changed limit leaves what was spent', async () => {
    const id = bucket();
    await clock(0);
    expect(await ask({ id, wanted: 10 })).toEqual([10, 0]);
    expect(await ask({ id, wanted: 10, burst: 12 })).toEqual([2, 0]);
    expect(await ask({ id, wanted: 10, burst: 5 })).toEqual([0, -7]);
  });

  it('has rows that go once their buckets are full', async () => {
    await clock(1_000_000);
    const [empty, full] = [bucket(), bucket()];
    await ask({ id: empty, wanted: 10, perSecond: 0.001 });
    await ask({ id: full, wanted: 1 });
    await clock(1_000_100);
    const { limits } = test.store();
    await limits.expire(new Date(START + 2_000_000_000_000), 1_000);
    const ids = await rowsAsOwner<{ id: Buffer }>(
      test.database(),
      'select id from public.limit_bucket',
    );
    expect(ids.map(({ id }) => id)).toEqual([empty]);
    // Forgotten when full: full again.
    expect(await ask({ id: full, wanted: 20 })).toEqual([10, 0]);
  });

  it('is shared by two instances that ask at once, and by those that come after a kill', async () => {
    await clock(2_000_000);
    const second = openStore({ url: test.database().appUrl });
    const stores = [test.store(), second];
    const rate = rateOf(60, 200);
    const limit: Limit = { name: 'principal.use', bucket: randomUUID(), owner: '', rate };
    const passedBy = async (limiter: Limiter) => {
      let passed = 0;
      for (let asked = 0; asked < 300; asked += 1) {
        if (limiter.charge([limit], 1).refused === null) passed += 1;
        await limiter.settled();
      }
      return passed;
    };
    try {
      const both = stores.map(({ limits }) => new Limiter({ store: limits, now: () => 0 }));
      const [a = 0, b = 0] = await Promise.all(both.map(passedBy));
      const tolerance = 2 * leaseOf(rate);
      expect(a + b).toBeGreaterThanOrEqual(200);
      expect(a + b).toBeLessThanOrEqual(200 + 2 * tolerance);
      // Neither gave anything back.
      const anew = new Limiter({ store: second.limits, now: () => 0 });
      expect(await passedBy(anew)).toBeLessThanOrEqual(tolerance);
    } finally {
      await second.close();
    }
  });

  it('is asked for by many at once without waiting for each other in a circle', async () => {
    await clock(3_000_000);
    const ids = Array.from({ length: 50 }, bucket);
    const request = (id: Uint8Array) => ({ id, owed: 0, wanted: 1, perSecond: 1, burst: 100 });
    const rounds = Array.from({ length: 10 }, (_, index) => {
      const turned = index % 2 === 0 ? ids : ids.toReversed();
      return test.store().limits.lease(turned.map(request));
    });
    const answers = (await Promise.all(rounds)).flat();
    expect(answers.map(({ granted }) => granted)).toEqual(answers.map(() => 1));
    expect(await ask({ id: ids[0] ?? bucket(), burst: 100 })).toEqual([0, 90]);
  });
});
