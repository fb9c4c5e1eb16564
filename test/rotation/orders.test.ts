/** Orders of rotations on a real database: once for each key, whoever leads and whatever fails. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { NO_CIRCUMSTANCES } from '../../src/audit/ports.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { KeyView } from '../../src/keyring/operations.ts';
import type { OrderInput } from '../../src/keyring/rotation-orders.ts';
import { aKey, aRun, codeOf } from '../keyring/world.ts';
import { rowsAsOwner } from '../store/owner.ts';
import { DAY, openStage, ROLE, TERMS } from './stage.ts';
import type { Actor, SchedulerChanges, Stage } from './stage.ts';

let stage: Stage;
let first: Actor;
beforeAll(async () => {
  stage = await openStage();
  first = stage.first;
}, 60_000);
afterAll(() => stage.stop(), 60_000);

const asOwner = <T = unknown>(sql: string, values: unknown[] = []): Promise<T[]> =>
  rowsAsOwner<T>(stage.database, sql, values);
/** Every test begins with no order that runs, no key that is due, and nobody who leads. */
beforeEach(async () => {
  stage.failures.length = 0;
  await asOwner(`update public.operation set state = 'cancelled' where state = 'running'`);
  await asOwner('update public.key_schedule set next_at = null');
  await asOwner('update public.leadership set holder = null');
});
afterEach(() => {
  stage.clock.now += DAY;
});

let tiers = 0;
/** Keys with a label of their own. */
async function keysOf(count: number, suite = 'HS256') {
  const labels = { tier: `t${String((tiers += 1))}` };
  const ids: string[] = [];
  for (let made = 0; made < count; made += 1) ids.push(await first.create({ suite, labels }));
  return { labels, ids };
}
const place = async (input: Partial<OrderInput> = {}, dryRun = false, namespace = 'default') => {
  const { body } = await first.keyring.orders.place(
    first.grant('rotations.order', null, namespace),
    { labels: null, suite: null, reason: 'a test', running: 1_000, ...input },
    {
      ...aRun(),
      dryRun,
      render: ({ id, counts }) => ({ status: 202, body: JSON.stringify({ id, counts }) }),
    },
  );
  return JSON.parse(body) as { readonly id: string; readonly counts: Record<string, number> };
};
const oversee = () => first.grant('operations.oversee', null);
const viewOf = async (id: string) =>
  first.keyring.operations.get(first.grant('operations.read', null), oversee(), id);
const failuresOf = (id: string) =>
  first.keyring.orders.failures(first.grant('operations.read', null), oversee(), {
    id,
    afterKey: null,
    limit: 100,
  });
const cancel = async (id: string) => {
  const grant = first.grant('operations.cancel', null);
  const step = await first.keyring.operations.cancel(grant, oversee(), { id, reason: 'enough' });
  const draft = {
    requestId: id,
    actor: {
      issuer: 'i',
      subject: 's',
      method: 'jwt',
      session: null,
      ...{ acr: null, amr: [], roles: [] },
    },
    ...NO_CIRCUMSTANCES,
    aad: null,
    loggedContext: {},
    operation: 'operations.cancel',
    namespace: 'default',
    keyRef: null,
    keyId: null,
    keyVersion: null,
    suite: null,
    outcome: 'ok',
    decision: null,
    source: 'x',
    contextKeys: [],
    contextValues: null,
    items: [],
    detail: {},
  } as const;
  const { epoch, namespace } = grant;
  await step.take(draft, { epoch, namespace, keyId: null, keyName: null });
};
const read = (id: string): Promise<KeyView> =>
  first.keyring.read.fresh(first.grant('keys.read', id));
const versionsOf = async (ids: readonly string[]) =>
  Promise.all(ids.map(async (id) => (await read(id)).key.latestVersion));
const runsOf = (id: string) =>
  asOwner<{ action: string; cause: string }>(
    'select action, cause from public.scheduled_run where key_id = $1',
    [id],
  );
/** Ticks until the order has ended, at most 30 times, with the time for what waits. */
async function carryOut(id: string, changes: SchedulerChanges = {}, actor = first) {
  const { scheduler } = actor.scheduler(changes);
  for (let tick = 0; tick < 30; tick += 1) {
    await scheduler.tick();
    if ((await viewOf(id)).state !== 'running') break;
    stage.clock.now += 60_000;
  }
  return viewOf(id);
}

describe('an order', () => {
  it('rotates each key that has the labels, once, and no other', async () => {
    const { labels, ids } = await keysOf(3);
    const others = await keysOf(2);
    const { id } = await place({ labels });
    expect(await carryOut(id)).toMatchObject({
      state: 'succeeded',
      position: 3,
      counts: { matched: 3, rotated: 3, skipped: 0, failed: 0, walked: 1 },
    });
    expect(await versionsOf(ids)).toEqual([2, 2, 2]);
    expect(await versionsOf(others.ids)).toEqual([1, 1]);
    expect(await runsOf(ids[0] ?? '')).toEqual([{ action: `order/${id}`, cause: 'order' }]);
    await carryOut(id);
    expect(await versionsOf(ids)).toEqual([2, 2, 2]);
  });

  it('of all keys is every key’s, to another suite where it serves', async () => {
    const { ids } = await keysOf(2, 'DHKEM-P256');
    const mac = await keysOf(1);
    const { id } = await place({ suite: findSuite('MLKEM768-P256') });
    const { counts, state } = await carryOut(id);
    expect(state).toBe('failed');
    expect(counts).toMatchObject({ skipped: 0, walked: 1 });
    expect(counts['matched']).toBe((counts['rotated'] ?? 0) + (counts['failed'] ?? 0));
    for (const each of ids) {
      expect((await read(each)).versions.map(({ suite }) => suite)).toContain(0x0101);
    }
    const failed = await failuresOf(id);
    expect(failed).toHaveLength(counts['failed'] ?? 0);
    expect(failed.find(({ keyId }) => keyId === mac.ids[0])).toMatchObject({
      state: 'failed',
      code: 'wrong_purpose',
      attempts: 1,
    });
  });

  it('is not of keys that were made after it', async () => {
    const { labels, ids } = await keysOf(2);
    const { id } = await place({ labels });
    stage.clock.now += 1;
    const late = await first.create({ suite: 'HS256', labels });
    expect((await carryOut(id)).counts).toMatchObject({ matched: 2, rotated: 2 });
    expect(await versionsOf([...ids, late])).toEqual([2, 2, 1]);
  });

  it('passes over a key that lost the labels, or whose note was forged', async () => {
    const { labels, ids } = await keysOf(2);
    const [stranger = ''] = (await keysOf(1)).ids;
    const { id } = await place({ labels });
    const { scheduler } = first.scheduler({ perMinute: 1 });
    await scheduler.tick();
    stage.clock.now += 1;
    const late = await first.create({ suite: 'HS256', labels });
    for (const forged of [stranger, late]) {
      await asOwner(
        `insert into public.rotation_order_key (operation_id, key_id, next_at) values ($1, $2, now() - interval '99 y')`,
        [id, forged],
      );
    }
    const left = (await versionsOf(ids)).indexOf(1);
    const changed = ids[left] ?? '';
    const grant = first.grant('keys.update', changed);
    await first.keyring.manage.update(grant, { labels: { tier: null } }, aRun());
    expect((await carryOut(id)).counts).toMatchObject({ rotated: 1, skipped: 3, failed: 0 });
    expect(await versionsOf([changed, stranger, late])).toEqual([1, 1, 1]);
  });

  it('as a dry run says how many keys it is of, and orders nothing', async () => {
    const { labels, ids } = await keysOf(3);
    const { id, counts } = await place({ labels }, true);
    expect(counts).toMatchObject({ matched: 3, rotated: 0 });
    expect(await codeOf(viewOf(id))).toBe('not_found');
    await first.scheduler().scheduler.tick();
    expect(await versionsOf(ids)).toEqual([1, 1, 1]);
  });

  it('stands in the entry of each rotation, with who asked and why', async () => {
    const { labels, ids } = await keysOf(1);
    const { id } = await place({ labels, reason: 'a leak' });
    await carryOut(id);
    const [entry] = await asOwner<{ body: Buffer }>(
      `select body from public.entry where operation = 'keys.rotate' and key_id = $1`,
      ids,
    );
    const body = entry?.body.toString('latin1') ?? '';
    for (const text of [id, 'orderedBy', 'alice', 'a leak']) expect(body).toContain(text);
  });

  it('that was altered in the database is carried out by nobody', async () => {
    const { labels, ids } = await keysOf(1);
    const { id } = await place({ labels: { ...labels, more: 'x' } });
    await asOwner(`update public.operation set request = request || $2 where id = $1`, [
      id,
      JSON.stringify({ labels: null }),
    ]);
    await first.scheduler().scheduler.tick();
    await first.scheduler().scheduler.tick();
    expect(await versionsOf(ids)).toEqual([1]);
    expect(stage.failures.map(({ error }) => TwofoldError.from(error).code)).toContain(
      'integrity_failed',
    );
    await asOwner('delete from public.operation where id = $1', [id]);
    await first.keyring.integrity.recheck();
  });
});

describe('carried out by two schedulers', () => {
  it('at once, it rotates each key once', async () => {
    const { labels, ids } = await keysOf(12);
    const { id } = await place({ labels });
    const second = await stage.another();
    // With no silence to wait for, each takes the other's term all the time.
    const [one, two] = [first.scheduler().scheduler, second.scheduler().scheduler];
    for (let round = 0; round < 60; round += 1) {
      await Promise.all([one.tick(), two.tick()].map((tick) => tick.catch(() => undefined)));
      if ((await viewOf(id)).state !== 'running') break;
      stage.clock.now += 60_000;
    }
    expect(await viewOf(id)).toMatchObject({ state: 'succeeded', counts: { rotated: 12 } });
    expect(await versionsOf(ids)).toEqual(ids.map(() => 2));
  });

  it('of which one takes longer for a key than it may be silent, it is done by that one', async () => {
    const { labels, ids } = await keysOf(1);
    const { id } = await place({ labels });
    const second = await stage.another();
    const slowly: SchedulerChanges = {
      silenceMs: 800,
      rotate: async (given, manage) => {
        await sleep(1_700);
        return manage.rotate(...given);
      },
    };
    const [one, two] = [first.scheduler(slowly), second.scheduler(slowly)];
    await one.leader.tick();
    const ended = new AbortController();
    const working = (async () => {
      for (let tick = 0; tick < 2; tick += 1) await one.scheduler.tick();
      ended.abort();
    })();
    while (!ended.signal.aborted) {
      await two.scheduler.tick();
      await sleep(20);
    }
    await working;
    expect(await versionsOf(ids)).toEqual([2]);
    expect((await viewOf(id)).counts).toMatchObject({ rotated: 1, failed: 0 });
    expect(two.leader.term).toBeNull();
  });

  it('a key under which each loses its term waits, and the next one has its turn', async () => {
    const { labels, ids } = await keysOf(3);
    const { id } = await place({ labels });
    let firstTried: string | null = null;
    const { scheduler } = first.scheduler({
      rotate: async (given, manage) => {
        const [{ key }] = given;
        firstTried ??= key;
        if (key === firstTried) {
          await asOwner('update public.leadership set term = term + 1 where role = $1', [ROLE]);
        }
        return manage.rotate(...given);
      },
    });
    for (let tick = 0; tick < 5; tick += 1) await scheduler.tick();
    const stuck = ids.findIndex((each) => each === firstTried);
    expect(await versionsOf(ids)).toEqual(ids.map((_, at) => (at === stuck ? 1 : 2)));
    expect(await failuresOf(id)).toMatchObject([
      { keyId: firstTried, state: 'waiting', code: 'conflict', attempts: 1 },
    ]);
  });

  it('of which one slept before it wrote, it has one effect', async () => {
    const { labels, ids } = await keysOf(1);
    const { id } = await place({ labels });
    await first.scheduler().scheduler.tick();
    const other = await keysOf(1);
    const next = await place({ labels: other.labels });
    const [asleep, reached] = [
      Promise.withResolvers<undefined>(),
      Promise.withResolvers<undefined>(),
    ];
    const sleeper = first.scheduler({
      rotate: async (given, manage) => {
        reached.resolve(undefined);
        await asleep.promise;
        return manage.rotate(...given);
      },
    });
    const sleeping = (async () => {
      for (let tick = 0; tick < 3; tick += 1) await sleeper.scheduler.tick();
    })();
    await reached.promise;
    const second = await stage.another();
    expect(await carryOut(next.id, {}, second)).toMatchObject({ state: 'succeeded' });
    asleep.resolve(undefined);
    await sleeping;
    expect(await versionsOf([...ids, ...other.ids])).toEqual([2, 2]);
    expect((await viewOf(next.id)).counts).toMatchObject({ rotated: 1, failed: 0 });
    expect((await viewOf(id)).state).toBe('succeeded');
  });
});

describe('an order under way', () => {
  it('keeps to the rotations a minute, beside policies that want them too', async () => {
    const { labels, ids } = await keysOf(6);
    const due = [await first.create({ suite: 'HS256' }), await first.create({ suite: 'HS256' })];
    for (const key of due) {
      await first.keyring.manage.changeRotation(
        first.grant('keys.set-rotation', key),
        { kind: 'set', terms: { ...TERMS, interval: 'P1D' } },
        aRun(),
      );
    }
    stage.clock.now += DAY;
    const { id } = await place({ labels });
    const { scheduler } = first.scheduler({ perMinute: 2 });
    const done: { readonly ordered: number; readonly due: number }[] = [];
    for (let half = 0; half < 8; half += 1) {
      await scheduler.tick();
      const rotated = (await versionsOf(due)).filter((version) => version === 2).length;
      done.push({ ordered: (await viewOf(id)).position, due: rotated });
      stage.clock.now += 30_000;
    }
    // By turns, until the policy wants no more.
    expect(done.map((at) => at.due)).toEqual([1, 1, 2, 2, 2, 2, 2, 2]);
    expect(done.map((at) => at.ordered)).toEqual([0, 1, 1, 2, 3, 4, 5, 6]);
    expect(await versionsOf(ids)).toEqual(ids.map(() => 2));
  });

  it('has its turns beside an older one of many more keys, however few rotations there are', async () => {
    const [large, small] = [await keysOf(50), await keysOf(2)];
    await place({ labels: large.labels });
    stage.clock.now += 1;
    const { id } = await place({ labels: small.labels });
    const { scheduler } = first.scheduler({ perMinute: 120 });
    for (let tick = 0; tick < 10; tick += 1) {
      await scheduler.tick();
      stage.clock.now += 1_000;
    }
    expect(await versionsOf(small.ids)).toEqual([2, 2]);
    expect((await viewOf(id)).state).toBe('succeeded');
  });

  it('has its turns beside older ones of another namespace, however many they are', async () => {
    const { labels } = await keysOf(1);
    for (let order = 0; order < 21; order += 1) await place({ labels });
    stage.clock.now += 1;
    const run = () => ({ ...aRun(), render: () => ({ status: 200, body: '' }) });
    const change = first.grant('namespaces.change', null);
    await first.namespaces.create(change, { name: 'beside', description: '' }, run());
    const key = aKey({ name: 'k', suite: 'HS256' });
    await first.keyring.manage.create(first.grant('keys.create', 'k', 'beside'), key, aRun());
    await place({}, false, 'beside');
    const { scheduler } = first.scheduler({
      rotate: (given, manage) =>
        given[0].namespace === 'beside'
          ? manage.rotate(...given)
          : Promise.reject(new TwofoldError('hsm_unavailable')),
    });
    for (let tick = 0; tick < 3; tick += 1) await scheduler.tick();
    const view = await first.keyring.read.fresh(first.grant('keys.read', 'k', 'beside'));
    expect(view.key.latestVersion).toBe(2);
  });

  it('ends at once when it is cancelled, and what is done stays done', async () => {
    const { labels, ids } = await keysOf(5);
    const { id } = await place({ labels });
    let rotated = 0;
    const { scheduler } = first.scheduler({
      rotate: async (given, manage) => {
        rotated += 1;
        // After it was authorized and before it commits.
        if (rotated === 3) await cancel(id);
        return manage.rotate(...given);
      },
    });
    for (let tick = 0; tick < 3; tick += 1) await scheduler.tick();
    expect(await viewOf(id)).toMatchObject({
      state: 'cancelled',
      reason: 'enough',
      counts: { matched: 5, rotated: 2, failed: 0 },
    });
    expect((await versionsOf(ids)).filter((version) => version === 2)).toHaveLength(2);
    expect(rotated).toBe(3);
  });

  it('is not stopped by a key that fails; that stands beside it until it works', async () => {
    const { labels, ids } = await keysOf(4);
    const [busy, suspended] = ids;
    const reason = { reason: 'a test' };
    const grant = first.grant('keys.suspend', suspended ?? '');
    await first.keyring.manage.suspend(grant, reason, aRun());
    const { id } = await place({ labels });
    let full = true;
    const rotate: SchedulerChanges['rotate'] = (given, manage) =>
      full && given[0].key === busy
        ? Promise.reject(new TwofoldError('hsm_full'))
        : manage.rotate(...given);
    const { scheduler } = first.scheduler({ rotate });
    for (let tick = 0; tick < 3; tick += 1) await scheduler.tick();
    expect(await viewOf(id)).toMatchObject({
      state: 'running',
      counts: { matched: 4, rotated: 2, failed: 1 },
    });
    const found = (await failuresOf(id)).map(({ keyId, state, code }) => [keyId, state, code]);
    expect(new Map(found.map(([key, ...rest]) => [key, rest]))).toEqual(
      new Map([
        [busy, ['waiting', 'hsm_full']],
        [suspended, ['failed', 'version_not_usable']],
      ]),
    );
    full = false;
    expect(await carryOut(id, { rotate })).toMatchObject({
      state: 'failed',
      reason: '1 of 4 keys were not rotated.',
      counts: { rotated: 3, failed: 1 },
    });
    expect((await failuresOf(id)).map(({ keyId }) => keyId)).toEqual([suspended]);
  });

  it('gives a key up after some hours of failures that might have passed', async () => {
    const { labels } = await keysOf(1);
    const { id } = await place({ labels });
    const { scheduler } = first.scheduler({
      rotate: () => Promise.reject(new TwofoldError('hsm_unavailable')),
    });
    for (let tick = 0; tick < 20; tick += 1) {
      await scheduler.tick();
      stage.clock.now += 3_600_000;
    }
    expect(await failuresOf(id)).toMatchObject([{ state: 'failed', attempts: 12 }]);
    expect((await viewOf(id)).state).toBe('failed');
  });

  it('goes on in another process where the first was killed', async () => {
    const { labels, ids } = await keysOf(6);
    const { id } = await place({ labels });
    let rotated = 0;
    const killed = first.scheduler({
      rotate: async (given, manage) => {
        const done = await manage.rotate(...given);
        // It commits, and never learns that it has.
        if ((rotated += 1) === 3) await new Promise(() => undefined);
        return done;
      },
    });
    void killed.scheduler.tick();
    while ((await viewOf(id)).position < 3) await new Promise((done) => setTimeout(done, 20));
    await asOwner('update public.leadership set holder = null where role = $1', [ROLE]);
    const second = await stage.another();
    expect(await carryOut(id, {}, second)).toMatchObject({
      state: 'succeeded',
      counts: { matched: 6, rotated: 6 },
    });
    expect(await versionsOf(ids)).toEqual(ids.map(() => 2));
  });

  it('looks at the keys in steps, and goes on with them after a crash', async () => {
    const { labels, ids } = await keysOf(5);
    const { id } = await place({ labels });
    const inSteps = (actor: Actor) =>
      actor.scheduler({
        orders: { walk: (order, now) => stage.store.orders.walk(order, now, 7) },
      }).scheduler;
    await inSteps(first).tick();
    expect((await viewOf(id)).counts).toMatchObject({ walked: 0 });
    const second = inSteps(await stage.another());
    for (let tick = 0; tick < 40; tick += 1) await second.tick();
    expect(await viewOf(id)).toMatchObject({ state: 'succeeded', counts: { rotated: 5 } });
    expect(await versionsOf(ids)).toEqual(ids.map(() => 2));
  });
});
