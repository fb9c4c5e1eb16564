/** Limits over several instances, on a clock of the test's: never more than is stated, and not much less. */
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { Limiter } from '../../src/limits/limiter.ts';
import { creditOf, leaseOf, periodAt, quotaOf, rateOf } from '../../src/limits/rate.ts';
import type { Limit, Rate } from '../../src/limits/rate.ts';
import { ModelBuckets } from './model.ts';

interface Step {
  readonly instance: number;
  readonly cost: number;
  readonly pause: number;
  readonly settle: boolean;
  readonly times: number;
  readonly end: number;
}

const limitOf = (rate: Rate, bucket = 'b', owner = 'n'): Limit => ({
  name: 'principal.use',
  bucket,
  owner,
  rate,
});

class World {
  now = 1_000;
  readonly store = new ModelBuckets(() => this.now);
  readonly instances: Limiter[];

  constructor(count = 1, most?: number) {
    this.instances = Array.from({ length: count }, () => this.start(most));
  }

  start(most?: number): Limiter {
    return new Limiter({
      store: this.store,
      now: () => this.now,
      ...(most === undefined ? {} : { most }),
    });
  }

  get one(): Limiter {
    const [first] = this.instances;
    if (first === undefined) throw new Error('no instance');
    return first;
  }
}

/** How many of so many requests get through, each after what the one before asked for has come. */
async function through(limiter: Limiter, limit: Limit, count: number, cost = 1): Promise<number> {
  let passed = 0;
  for (let asked = 0; asked < count; asked += 1) {
    if (limiter.charge([limit], cost).refused === null) passed += cost;
    await limiter.settled();
  }
  return passed;
}

/** Beyond burst and rate, of each instance. */
const tolerance = (rate: Rate, cost = 1) => leaseOf(rate) + creditOf(rate) + cost - 1;

describe('a limit over several instances', () => {
  it('lets through no more than is stated in any span, whatever comes when and to whom', async () => {
    const step = fc.record({
      instance: fc.nat(2),
      cost: fc.integer({ min: 1, max: 7 }),
      pause: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 3_000 })),
      settle: fc.boolean(),
      times: fc.integer({ min: 1, max: 20 }),
      end: fc.integer({ min: 0, max: 40 }),
    });
    const rates = fc.record({
      perMinute: fc.integer({ min: 1, max: 6_000 }),
      burst: fc.integer({ min: 1, max: 200 }),
    });
    const check = async (rate: Rate, steps: readonly Step[]) => {
      const world = new World(3);
      const limit = limitOf(rate);
      const passed: { at: number; cost: number }[] = [];
      let ended = 0;
      for (const { instance, cost, pause, settle, times, end } of steps) {
        world.now += pause;
        // Killed: what it holds is lost, and what it owes.
        if (end === 0) {
          world.instances[instance] = world.start();
          ended += 1;
        }
        for (let time = 0; time < times; time += 1) {
          const done = world.instances[instance]?.charge([limit], cost);
          if (done?.refused === null) passed.push({ at: world.now, cost });
          if (settle) await world.instances[instance]?.settled();
        }
      }
      const most = (3 + ended) * tolerance(rate, 7);
      for (const [first, { at: begin }] of passed.entries()) {
        let sum = 0;
        for (const { at, cost } of passed.slice(first)) {
          sum += cost;
          const filled = (rate.perMinute / 60) * ((at - begin) / 1_000);
          expect(sum).toBeLessThanOrEqual(rate.burst + filled + most + 1e-6);
        }
      }
    };
    await fc.assert(fc.asyncProperty(rates, fc.array(step, { maxLength: 60 }), check), {
      numRuns: 150,
    });
  });

  it('gives who keeps asking all of the rate', async () => {
    const world = new World(2);
    const rate = rateOf(600, 100);
    const [a, b] = world.instances as [Limiter, Limiter];
    let passed = 0;
    for (let tick = 0; tick < 6_000; tick += 1) {
      world.now += 10;
      passed += await through(tick % 2 === 0 ? a : b, limitOf(rate), 1);
    }
    expect(passed).toBeGreaterThanOrEqual(600);
    expect(passed).toBeLessThanOrEqual(700 + 2 * tolerance(rate));
  });

  it('counts each item of a batch, and lets a batch larger than the burst pass on credit', async () => {
    const world = new World();
    const limit = limitOf(rateOf(60, 10));
    expect(await through(world.one, limit, 1, 1_000)).toBe(1_000);
    expect(await through(world.one, limit, 50)).toBe(0);
    world.now += 900_000;
    expect(await through(world.one, limit, 50)).toBe(0);
    world.now += 120_000;
    // The first after the wait learns how it stands.
    expect(await through(world.one, limit, 50)).toBeGreaterThan(5);
  });
});

describe('what is left', () => {
  it('is nothing while nothing passes, however much the database was last heard to have', async () => {
    const world = new World();
    const limit = limitOf(rateOf(60, 20));
    expect(await through(world.one, limit, 10)).toBe(10);
    // Its next answers take long.
    world.store.held = true;
    let charge = world.one.charge([limit], 1);
    while (charge.refused === null) charge = world.one.charge([limit], 1);
    expect(charge.left).toBeGreaterThan(0);
    expect(world.one.remaining(limit)).toBe(0);
    world.store.held = false;
    world.store.answer();
    await world.one.settled();
    expect(world.one.remaining(limit)).toBeGreaterThan(0);
    expect(world.one.charge([limit], 1).refused).toBeNull();
  });
});

describe('who is refused by what is known alone', () => {
  const rate = rateOf(60, 20);
  const own = limitOf(rate, 'own');
  const shared = limitOf(quotaOf(5), 'shared');
  const charge = (limiter: Limiter) => limiter.chargeKnown([own, shared], (limit) => limit === own);

  it('passes what others used up, and counts against it', async () => {
    const world = new World(2);
    const [, other] = world.instances;
    for (let n = 0; n < 10; n += 1) {
      expect(charge(world.one).refused).toBeNull();
      await world.one.settled();
    }
    if (other !== undefined) expect(await through(other, shared, 30)).toBeLessThanOrEqual(5);
    expect(await through(world.one, shared, 10)).toBe(0);
  });

  it('has over time what its own limit says, over all instances', async () => {
    const world = new World(3);
    let passed = 0;
    for (let second = 0; second < 200; second += 1) {
      for (const each of world.instances) {
        for (let n = 0; n < 3; n += 1) if (charge(each).refused === null) passed += 1;
      }
      for (const each of world.instances) await each.settled();
      world.now += 1_000;
    }
    // Of each instance what it let through before it heard, twice; what was so used is owed.
    expect(passed).toBeLessThanOrEqual(rate.burst + 200 + 3 * (2 * leaseOf(rate) + 2 * 3));
    expect(passed).toBeGreaterThanOrEqual(200);
  });

  it('passes while the database is silent, and owes it', async () => {
    const world = new World();
    world.store.down = true;
    for (let n = 0; n < 100; n += 1) {
      expect(charge(world.one).refused).toBeNull();
      await world.one.settled();
    }
    world.store.down = false;
    world.now += 2_000;
    charge(world.one);
    await world.one.settled();
    expect(charge(world.one).refused).toBe(own);
    expect(await through(world.one, own, 5)).toBe(0);
  });

  it('owes a burst at most of each rate, which others wait for too, and all of a quota', async () => {
    const world = new World();
    const [ofAll, quota] = [limitOf(rate, 'of all'), limitOf(quotaOf(1_000), 'quota')];
    const use = () => world.one.chargeKnown([own, ofAll, quota], () => false);
    world.store.down = true;
    for (let n = 0; n < 900; n += 1) use();
    // What was not counted is not given back either.
    world.one.refund(use());
    await world.one.settled();
    world.store.down = false;
    world.now += 2_000;
    for (let n = 0; n < 90; n += 1) {
      use();
      await world.one.settled();
    }
    // What was owed, and what came since: of each a burst, which takes 20 s; the latter is only told now.
    world.now += 21_000;
    await through(world.one, ofAll, 1);
    world.now += 21_000;
    expect(await through(world.one, ofAll, 5)).toBeGreaterThanOrEqual(4);
    expect(await through(world.one, quota, 50)).toBe(10);
  });
});

describe('a quota of a period over several instances', () => {
  it('is never filled again, and lets through what is stated, whoever starts anew or is killed', async () => {
    const step = fc.record({
      instance: fc.nat(2),
      cost: fc.integer({ min: 1, max: 7 }),
      pause: fc.oneof(fc.nat(3_000), fc.nat(30_000), fc.nat(20_000_000)),
      settle: fc.boolean(),
      times: fc.integer({ min: 1, max: 40 }),
      end: fc.integer({ min: 0, max: 40 }),
    });
    const check = async (most: number, steps: readonly Step[]) => {
      const world = new World(3);
      const rate = quotaOf(most);
      const limit = limitOf(rate);
      let [passed, ended] = [0, 0];
      for (const { instance, cost, pause, settle, times, end } of steps) {
        world.now += pause;
        for (const each of world.instances) each.giveBack();
        if (end === 0) {
          world.instances[instance] = world.start();
          ended += 1;
        }
        for (let time = 0; time < times; time += 1) {
          const done = world.instances[instance]?.charge([limit], cost);
          if (done?.refused === null) passed += cost;
          if (settle) await world.instances[instance]?.settled();
        }
      }
      expect(passed).toBeLessThanOrEqual(most + (3 + ended) * tolerance(rate, 7));
      // Nobody holds more than a lease of what is left.
      for (const each of world.instances) await each.settled();
      expect(leaseOf(rate)).toBe(Math.ceil(most / 100));
      expect(creditOf(rate)).toBe(Math.min(most, Math.max(16, Math.ceil(most / 100))));
    };
    const counts = fc.integer({ min: 0, max: 500 });
    await fc.assert(fc.asyncProperty(counts, fc.array(step, { maxLength: 40 }), check), {
      numRuns: 150,
    });
  });

  it('is used up, but for what instances took with them that ended by force', async () => {
    const world = new World(2);
    const rate = quotaOf(1_000);
    const limit = limitOf(rate);
    let passed = await through(world.one, limit, 300);
    world.instances[0] = world.start();
    passed += await through(world.one, limit, 300);
    await world.one.close();
    world.instances[0] = world.start();
    for (const each of world.instances) passed += await through(each, limit, 1_000);
    world.now += 365 * 86_400_000;
    passed += await through(world.one, limit, 100);
    expect(passed).toBeLessThanOrEqual(1_000 + 4 * tolerance(rate));
    expect(passed).toBeGreaterThanOrEqual(1_000 - 3 * leaseOf(rate));
  });

  it('stays whole for who uses it, however many instances have touched it', async () => {
    const most = 10_000;
    const world = new World(200);
    const limit = limitOf(quotaOf(most));
    let passed = 0;
    for (const each of world.instances) passed += await through(each, limit, 1);
    expect(passed).toBe(200);
    passed += await through(world.one, limit, most);
    expect(passed).toBeGreaterThanOrEqual(9_000);
    expect(passed).toBeLessThanOrEqual(most + 200 * tolerance(limit.rate));
  });

  it('that is small is not used up by who only touches it', async () => {
    const world = new World(40);
    const limit = limitOf(quotaOf(50));
    for (const each of world.instances) expect(await through(each, limit, 1)).toBe(1);
    expect(await through(world.one, limit, 50)).toBe(10);
  });

  it('comes back from who has stopped using it, in some seconds', async () => {
    const most = 10_000;
    const world = new World(90);
    const [one, ...others] = world.instances;
    const limit = limitOf(quotaOf(most));
    const pass = (count: number) => {
      world.now += count;
      for (const each of world.instances) each.giveBack();
      return Promise.all(world.instances.map((each) => each.settled()));
    };
    let passed = 0;
    for (const each of others) passed += await through(each, limit, 10);
    await pass(1_000);
    // Who goes on keeps a supply of what it uses in that time, and asks no more often.
    for (let second = 0; second < 60; second += 1) {
      for (let n = 0; n < 5; n += 1) passed += await through(one ?? world.one, limit, 1);
      await pass(1_000);
    }
    const { calls } = world.store;
    await pass(60_000);
    await pass(60_000);
    expect(world.store.calls - calls).toBeLessThanOrEqual(2);
    expect(passed).toBe(89 * 10 + 300);
    // All of the rest is left for an instance that has used none.
    expect(await through(world.start(), limit, most)).toBe(most - passed);
  });

  it('keeps what cannot be given back as the database is away', async () => {
    const world = new World();
    const limit = limitOf(quotaOf(10_000));
    const passed = await through(world.one, limit, 100);
    world.store.refusing = true;
    for (let second = 0; second < 60; second += 1) {
      world.now += 1_000;
      world.one.giveBack();
      await world.one.settled();
    }
    expect(world.store.calls).toBeGreaterThan(0);
    world.store.refusing = false;
    world.now += 20_000;
    world.one.giveBack();
    await world.one.settled();
    expect(await through(world.start(), limit, 10_000)).toBe(10_000 - passed);
  });

  it('that is small lets through what comes at once, of which nothing is used yet', async () => {
    const world = new World(2);
    const limit = limitOf(quotaOf(50));
    let passed = 0;
    for (let round = 0; round < 10; round += 1) {
      for (const each of world.instances) {
        for (let at = 0; at < 4; at += 1) {
          if (each.charge([limit], 1).refused === null) passed += 1;
        }
      }
      for (const each of world.instances) await each.settled();
      if (round < 6) expect(passed).toBe(8 * (round + 1));
    }
    expect(passed).toBeGreaterThanOrEqual(49);
    expect(passed).toBeLessThanOrEqual(50 + 2 * tolerance(limit.rate));
  });

  it('is not passed by a batch, of which as much goes through as is left', async () => {
    const world = new World(2);
    const [one, other] = world.instances;
    const limit = limitOf(quotaOf(100));
    expect(await through(world.one, limit, 1, 101)).toBe(0);
    expect(await through(world.one, limit, 1, 70)).toBe(70);
    expect(await through(world.one, limit, 10, 31)).toBe(0);
    // Another instance learns of it from what it asks for first.
    if (other !== undefined) {
      await through(other, limit, 1);
      expect(await through(other, limit, 10, 30)).toBe(0);
      expect(await through(other, limit, 1, 27)).toBe(27);
      await other.close();
    }
    // What it gave back is found once something is refused for it.
    expect(await through(one ?? world.one, limit, 2, 2)).toBe(2);
  });

  it('of none lets nothing through', async () => {
    const world = new World();
    expect(await through(world.one, limitOf(quotaOf(0)), 10)).toBe(0);
  });

  it.each([
    ['day', '2028-02-29T23:59:59.999Z', '2028-02-29', '2028-02-29', '2028-03-01'],
    ['day', '2028-03-01T00:00:00.000Z', '2028-03-01', '2028-03-01', '2028-03-02'],
    ['month', '2028-02-29T23:59:59.999Z', '2028-02', '2028-02-01', '2028-03-01'],
    ['month', '2027-12-31T23:59:59.999Z', '2027-12', '2027-12-01', '2028-01-01'],
  ] as const)('has its %s in UTC at %s', (kind, at, name, begins, ends) => {
    expect(periodAt(kind, new Date(at))).toEqual({
      ...{ kind, name },
      ...{ begins: Date.parse(begins), ends: Date.parse(ends) },
    });
  });
});

describe('what was spent stays spent', () => {
  const rate = rateOf(60, 100);
  const limit = limitOf(rate);

  it('when an instance starts anew', async () => {
    const world = new World();
    await through(world.one, limit, 500);
    const again = await through(world.start(), limit, 500);
    expect(again).toBeLessThanOrEqual(tolerance(rate));
  });

  it('when it is forgotten for others', async () => {
    const world = new World(1, 4);
    await through(world.one, limit, 500);
    for (let other = 0; other < 100; other += 1) {
      await through(world.one, limitOf(rate, `other-${String(other)}`), 1);
      expect(world.one.size).toBeLessThanOrEqual(4 + 1);
    }
    expect(await through(world.one, limit, 500)).toBeLessThanOrEqual(tolerance(rate));
  });

  it('when the limit changes', async () => {
    const world = new World();
    await through(world.one, limit, 500);
    const lower = limitOf(rateOf(60, 50));
    expect(await through(world.one, lower, 500)).toBeLessThanOrEqual(tolerance(lower.rate));
    const higher = limitOf(rateOf(60, 110));
    expect(await through(world.one, higher, 500)).toBeLessThanOrEqual(10 + tolerance(higher.rate));
  });

  it('unless it is given back, or the request did nothing', async () => {
    const world = new World();
    await through(world.one, limit, 10);
    await world.one.close();
    const probe = world.start();
    expect(await through(probe, limit, 500)).toBeGreaterThanOrEqual(90);
    const other = limitOf(rate, 'refunded');
    for (let time = 0; time < 500; time += 1) {
      const charge = probe.charge([other], 1);
      expect(charge.refused).toBeNull();
      probe.refund(charge);
      await probe.settled();
    }
  });
});

describe('buckets without end of one owner', () => {
  const rate = rateOf(60, 100);
  const many = (world: World, from: number, count: number) =>
    Array.from({ length: count }, (_, n) => limitOf(rate, `m-${String(from + n)}`, 'many')).map(
      (limit) => world.one.charge([limit], 1).refused,
    );

  it('push out none of another, also while what goes cannot be given back', async () => {
    const world = new World(1, 4_000);
    const few = Array.from({ length: 100 }, (_, n) => limitOf(rate, `f-${String(n)}`, 'few'));
    for (const limit of few) await through(world.one, limit, 1);
    const left = () => few.map((limit) => world.one.remaining(limit));
    const before = left();
    for (let round = 0; round < 20; round += 1) {
      many(world, round * 1_000, 1_000);
      await world.one.settled();
    }
    expect(left()).toEqual(before);
    // The database hangs, and the buckets that go wait for it: the owner of the many is refused, the other is not.
    world.store.held = true;
    expect(many(world, 100_000, 10_000).at(-1)).toMatchObject({ owner: 'many' });
    for (let n = 0; n < 500; n += 1) {
      expect(world.one.charge([limitOf(rate, `g-${String(n)}`, 'few')], 1).refused).toBeNull();
    }
    expect(world.one.size).toBeLessThanOrEqual(4_000 + 2_000);
    expect(left()).toEqual(before);
  });

  it('give way to others until those have an equal share, and are refused nothing but room', async () => {
    const world = new World(1, 100);
    many(world, 0, 500);
    await world.one.settled();
    const others = Array.from({ length: 4 }, (_, owner) =>
      Array.from({ length: 20 }, (_, n) =>
        limitOf(rate, `o-${String(n)}`, `other-${String(owner)}`),
      ),
    ).flat();
    for (const limit of others) {
      await through(world.one, limit, 1);
      many(world, 1_000, 10);
      await world.one.settled();
    }
    for (const limit of others) expect(world.one.remaining(limit)).toBeLessThan(100);
  });
});

describe('a database that does not answer', () => {
  it('holds nobody up, and lets one lease through on credit', async () => {
    const world = new World();
    world.store.held = true;
    const limit = limitOf(rateOf(600, 100));
    let passed = 0;
    let refusal;
    for (let asked = 0; asked < 50; asked += 1) {
      const charge = world.one.charge([limit], 1);
      if (charge.refused === null) passed += 1;
      else refusal = charge;
    }
    expect(passed).toBe(leaseOf(limit.rate));
    expect(refusal?.refused).toBe(limit);
    world.store.held = false;
    await Promise.resolve();
    world.store.answer();
    await world.one.settled();
    // Held back while it was asked: the credit is charged, and there is allowance again.
    expect(await through(world.one, limit, 10)).toBe(10);
  });

  it('is asked again after a second, not with each request', async () => {
    const world = new World();
    world.store.down = true;
    const limit = limitOf(rateOf(600, 100));
    await through(world.one, limit, 200);
    expect(world.store.calls).toBe(1);
    expect(world.one.figures.failures).toBe(1);
    world.store.down = false;
    world.now += 1_001;
    await through(world.one, limit, 1);
    expect(await through(world.one, limit, 50)).toBe(50);
  });

  it('is asked no more of an empty bucket than it fills', async () => {
    const world = new World();
    const limit = limitOf(rateOf(60, 10));
    await through(world.one, limit, 1_000);
    const { calls } = world.store;
    await through(world.one, limit, 10_000);
    expect(world.store.calls - calls).toBeLessThanOrEqual(1);
  });
});

it('refuses for one limit without counting against the others', async () => {
  const world = new World();
  const narrow = limitOf(rateOf(60, 10), 'narrow');
  const wide = limitOf(rateOf(60, 100), 'wide');
  await through(world.one, narrow, 100);
  for (let asked = 0; asked < 500; asked += 1) {
    expect(world.one.charge([wide, narrow], 1).refused).toBe(narrow);
    await world.one.settled();
  }
  expect(world.one.remaining(wide)).toBe(100);
});
