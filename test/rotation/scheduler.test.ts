/** The scheduler on a real database: once, by one leader, and one failing key stops no other. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { findSuite } from '../../src/crypto/suites.ts';
import { TwofoldError } from '../../src/errors.ts';
import { newPolicy } from '../../src/keyring/rotation-policy.ts';
import type { PolicyTerms } from '../../src/keyring/rotation-policy.ts';
import type { KeyView } from '../../src/keyring/operations.ts';
import { Leader } from '../../src/leader.ts';
import { aRun, codeOf } from '../keyring/world.ts';
import { rowsAsOwner } from '../store/owner.ts';
import { DAY, openStage, ROLE, TERMS } from './stage.ts';
import type { Actor, SchedulerChanges, Stage } from './stage.ts';

const numberOf = (id: string): number => findSuite(id).number;

let stage: Stage;
let first: Actor;
beforeAll(async () => {
  stage = await openStage();
  first = stage.first;
}, 60_000);
afterAll(() => stage.stop(), 60_000);

const asOwner = <T = unknown>(sql: string, values: unknown[] = []): Promise<T[]> =>
  rowsAsOwner<T>(stage.database, sql, values);
/** Every test begins with no key and nobody who leads. */
beforeEach(async () => {
  stage.policies.length = 0;
  stage.failures.length = 0;
  await asOwner(
    'update public.key_schedule set next_at = null, failures = 0, failure_code = null, failed_at = null',
  );
  await asOwner('update public.leadership set holder = null');
});
afterEach(() => {
  stage.clock.now += 400 * DAY;
});

const read = (id: string): Promise<KeyView> =>
  first.keyring.read.fresh(first.grant('keys.read', id));
const setPolicy = (id: string, terms: Partial<PolicyTerms>) =>
  first.keyring.manage.changeRotation(
    first.grant('keys.set-rotation', id),
    { kind: 'set', terms: { ...TERMS, ...terms } },
    aRun(),
  );
const ruled = async (terms: Partial<PolicyTerms>, suite = 'A256GCM'): Promise<string> => {
  const id = await first.create({ suite });
  await setPolicy(id, terms);
  return id;
};
const runsOf = (id: string) =>
  asOwner<{ action: string; cause: string | null }>(
    'select action, cause from public.scheduled_run where key_id = $1 order by due_at, action',
    [id],
  );
const scheduleOf = async (id: string) => {
  const [row] = await asOwner<{ failures: number; failure_code: string | null }>(
    'select failures, failure_code from public.key_schedule where key_id = $1',
    [id],
  );
  return row;
};

describe('a rotation that is due', () => {
  it('runs once, and not before', async () => {
    const id = await ruled({ interval: 'P90D' });
    const { scheduler } = first.scheduler();
    await scheduler.tick();
    stage.clock.now += 80 * DAY;
    expect(await scheduler.tick()).toMatchObject({ leads: true, actions: 0, failures: 0 });
    stage.clock.now += 10 * DAY;
    expect(await scheduler.tick()).toMatchObject({ actions: 1 });
    expect((await read(id)).key).toMatchObject({ primary: 2, latestVersion: 2 });
    expect(await scheduler.tick()).toMatchObject({ actions: 0 });
    expect(await runsOf(id)).toEqual([{ action: 'rotate/1/1', cause: 'interval' }]);
  });

  it('asked for by many intervals that were missed runs once', async () => {
    const id = await ruled({ interval: 'P30D' });
    stage.clock.now += 300 * DAY;
    await first.scheduler().scheduler.tick();
    expect((await read(id)).key.primary).toBe(2);
  });

  it('is the namespace’s by labels, and the key’s own policy stands above it', async () => {
    const policy = newPolicy({ ...TERMS, interval: 'P30D' });
    stage.policies.push({ name: 'all', selector: {}, priority: 0, policy });
    const selected = await first.create({ suite: 'HS256' });
    const own = await ruled({ interval: 'P360D' });
    stage.clock.now += 31 * DAY;
    await first.scheduler().scheduler.tick();
    expect((await read(selected)).key.primary).toBe(2);
    expect((await read(own)).key.primary).toBe(1);
  });

  it('by use comes when the count is reached, without anybody asking', async () => {
    const id = await ruled({ maxUses: 65 });
    const { scheduler } = first.scheduler();
    await scheduler.tick();
    // Blocks of 64, then of 256: the second passes the count.
    for (let use = 0; use < 65; use += 1) await first.wrap(id, 'x');
    expect(await scheduler.tick()).toMatchObject({ actions: 1 });
    expect(await runsOf(id)).toEqual([{ action: 'rotate/1/1', cause: 'uses' }]);
  });

  it.each([1, 9, 40, 300])(
    'by use comes with the last of %i uses, of one instance',
    async (maxUses) => {
      const id = await ruled({ maxUses });
      const { scheduler } = first.scheduler();
      await scheduler.tick();
      for (let use = 1; use < maxUses; use += 1) await first.wrap(id, 'x');
      expect((await scheduler.tick()).actions).toBe(0);
      await first.wrap(id, 'x');
      expect(await scheduler.tick()).toMatchObject({ actions: 1 });
      expect(await runsOf(id)).toEqual([{ action: 'rotate/1/1', cause: 'uses' }]);
    },
  );

  it('by use comes though a clock that ran ahead dated the version', async () => {
    const start = stage.clock.now;
    stage.clock.now += 3_000 * DAY;
    const id = await ruled({ maxUses: 3 });
    const bare = await first.create({ suite: 'A256GCM' });
    stage.clock.now = start;
    const { scheduler } = first.scheduler();
    await scheduler.tick();
    for (let use = 0; use < 3; use += 1) await first.wrap(id, 'x');
    await asOwner(
      `insert into public.usage_counter (counter, used) values ($1, $2)
        on conflict (counter) do update set used = excluded.used`,
      [`${bare}/1`, 2 ** 31],
    );
    expect(await scheduler.tick()).toMatchObject({ actions: 2, failures: 0 });
    expect(await runsOf(id)).toMatchObject([{ cause: 'uses' }]);
    expect(await runsOf(bare)).toMatchObject([{ cause: 'gcm-limit' }]);
  });

  it('by use comes for signatures and MACs as for wraps', async () => {
    const signer = await ruled({ maxUses: 65 }, 'MLDSA65-ECDSA-P256-SHA512');
    const mac = await ruled({ maxUses: 65 }, 'HS256');
    const { scheduler } = first.scheduler();
    await scheduler.tick();
    const message = Buffer.from('x');
    const { use } = first.keyring;
    const one = { message, signatureContext: new Uint8Array(0) };
    for (let made = 0; made < 64; made += 1) await use.sign(first.grant('sign', signer), one);
    await scheduler.tick();
    expect(await runsOf(signer)).toEqual([]);
    await use.sign(first.grant('sign', signer), one);
    for (let made = 0; made < 65; made += 1) await use.mac(first.grant('mac', mac), { message });
    expect(await scheduler.tick()).toMatchObject({ actions: 2 });
    for (const id of [signer, mac]) {
      expect(await runsOf(id)).toEqual([{ action: 'rotate/1/1', cause: 'uses' }]);
    }
  });

  it('at 2^31 AES-GCM uses comes whatever the policy says, or none', async () => {
    const [bare, paused] = [
      await first.create({ suite: 'A256GCM' }),
      await ruled({ interval: 'P90D' }),
    ];
    const pause = { kind: 'pause', reason: 'freeze' } as const;
    await first.keyring.manage.changeRotation(
      first.grant('keys.set-rotation', paused),
      pause,
      aRun(),
    );
    const { scheduler } = first.scheduler();
    await scheduler.tick();
    for (const id of [bare, paused]) {
      await asOwner(
        `insert into public.usage_counter (counter, used) values ($1, $2)
          on conflict (counter) do update set used = excluded.used`,
        [`${id}/1`, 2 ** 31],
      );
    }
    expect(await scheduler.tick()).toMatchObject({ actions: 2 });
    for (const id of [bare, paused]) {
      expect(await runsOf(id)).toEqual([{ action: 'rotate/1/1', cause: 'gcm-limit' }]);
    }
  });

  it('to another suite comes at its date, once, and stays', async () => {
    const notBefore = new Date(stage.clock.now + 20 * DAY);
    const upgrade = { suite: numberOf('MLKEM768-P256'), notBefore };
    const id = await ruled({ interval: 'P30D', upgrade }, 'DHKEM-P256');
    const { scheduler } = first.scheduler();
    stage.clock.now += 20 * DAY;
    await scheduler.tick();
    stage.clock.now += 30 * DAY;
    await scheduler.tick();
    const { versions } = await read(id);
    expect(versions.slice(1).map(({ suite }) => suite)).toEqual([0x0101, 0x0101]);
    expect((await runsOf(id)).map(({ cause }) => cause)).toEqual(['upgrade', 'interval']);
  });

  it('retires what the policy does not keep, and destroys nothing', async () => {
    const id = await ruled({ interval: 'P30D', retire: { keepVersions: 2, after: null } });
    const { scheduler } = first.scheduler();
    for (let month = 0; month < 3; month += 1) {
      stage.clock.now += 30 * DAY;
      await scheduler.tick();
    }
    const { key, versions } = await read(id);
    expect(key).toMatchObject({ primary: 4, minUsableVersion: 3 });
    expect(versions.map(({ state }) => state)).toEqual([
      'deactivated',
      'deactivated',
      'active',
      'active',
    ]);
  });

  it('is announced once, before it comes', async () => {
    const id = await ruled({ interval: 'P90D', notice: 'P14D' });
    const { scheduler } = first.scheduler();
    stage.clock.now += 80 * DAY;
    await scheduler.tick();
    await scheduler.tick();
    expect((await runsOf(id)).map(({ action }) => action.split('/').slice(0, 2))).toEqual([
      ['notice', 'rotation'],
    ]);
    stage.clock.now += 10 * DAY;
    await scheduler.tick();
    expect((await runsOf(id)).map(({ action }) => action.split('/')[0])).toEqual([
      'notice',
      'rotate',
    ]);
  });
});

describe('a retirement under a policy with notice', () => {
  const retire = { keepVersions: 1, after: null };
  const toldOf = (id: string) =>
    asOwner<{ data: { at: string; version: number } }>(
      `select data from public.event where key_id = $1 and type = 'version.retirement-due'
        order by epoch, n`,
      [id],
    );

  it('closes no version that was just used before its notice has passed', async () => {
    const id = await first.create({ suite: 'A256GCM' });
    for (let n = 0; n < 2; n += 1) {
      await first.keyring.manage.rotate(first.grant('keys.rotate', id), {}, aRun());
    }
    await setPolicy(id, { retire, notice: 'P7D' });
    const { scheduler } = first.scheduler();
    await scheduler.tick();
    await scheduler.tick();
    const closes = new Date(stage.clock.now + 7 * DAY).toISOString();
    const open = {
      key: { minUsableVersion: 1 },
      versions: [1, 2, 3].map(() => ({ state: 'active' })),
    };
    expect(await read(id)).toMatchObject(open);
    expect((await toldOf(id)).map(({ data }) => [data.version, data.at])).toEqual([
      [1, closes],
      [2, closes],
    ]);
    stage.clock.now += 7 * DAY - 1;
    await scheduler.tick();
    expect(await read(id)).toMatchObject(open);
    stage.clock.now += 1;
    await scheduler.tick();
    expect(await read(id)).toMatchObject({
      key: { minUsableVersion: 3 },
      versions: [{ state: 'deactivated' }, { state: 'deactivated' }, { state: 'active' }],
    });
    expect(await toldOf(id)).toHaveLength(2);
  });

  it('is announced again by another process, of a version opened again and of a changed policy', async () => {
    const id = await first.create({ suite: 'A256GCM' });
    await first.keyring.manage.rotate(first.grant('keys.rotate', id), {}, aRun());
    await setPolicy(id, { retire, notice: 'P7D' });
    const second = await stage.another();
    await first.scheduler().scheduler.tick();
    stage.clock.now += 7 * DAY;
    const { scheduler } = second.scheduler();
    await scheduler.tick();
    await scheduler.tick();
    expect((await read(id)).key.minUsableVersion).toBe(2);
    const open = { minUsableVersion: 1 };
    await second.keyring.manage.update(second.grant('keys.update', id), open, aRun());
    await scheduler.tick();
    expect([(await read(id)).key.minUsableVersion, (await toldOf(id)).length]).toEqual([1, 2]);
    stage.clock.now += 6 * DAY;
    const longer = { kind: 'set', terms: { ...TERMS, retire, notice: 'P8D' } } as const;
    const grant = second.grant('keys.set-rotation', id);
    await second.keyring.manage.changeRotation(grant, longer, aRun());
    stage.clock.now += 7 * DAY;
    await scheduler.tick();
    expect([(await read(id)).key.minUsableVersion, (await toldOf(id)).length]).toEqual([1, 3]);
    stage.clock.now += 8 * DAY;
    await scheduler.tick();
    expect([(await read(id)).key.minUsableVersion, (await toldOf(id)).length]).toEqual([2, 3]);
    expect(stage.failures).toEqual([]);
  });
});

describe('two schedulers', () => {
  it('have one leader, who keeps the term while it beats', async () => {
    const second = await stage.another();
    const [one, two] = [
      first.scheduler({ silenceMs: 60_000 }),
      second.scheduler({ silenceMs: 60_000 }),
    ];
    expect(await one.leader.tick()).not.toBeNull();
    expect(await two.leader.tick()).toBeNull();
    expect(await one.leader.tick()).not.toBeNull();
    expect(await two.leader.tick()).toBeNull();
    await one.leader.resign();
    expect(await two.leader.tick()).not.toBeNull();
    expect(one.leader.term).toBeNull();
  });

  it('at once rotate each key once, whoever believes to lead', async () => {
    const second = await stage.another();
    const ids = await Promise.all(Array.from({ length: 12 }, () => ruled({ interval: 'P30D' })));
    stage.clock.now += 30 * DAY;
    // With no silence to wait for, each takes the other's term all the time.
    const [one, two] = [first.scheduler().scheduler, second.scheduler().scheduler];
    for (let round = 0; round < 20; round += 1) {
      await Promise.all([one.tick(), two.tick()].map((tick) => tick.catch(() => undefined)));
    }
    for (const id of ids) {
      expect((await read(id)).key.latestVersion).toBe(2);
      expect(await runsOf(id)).toHaveLength(1);
    }
  });

  it('of which one slept between reading and writing have one effect', async () => {
    const id = await ruled({ interval: 'P30D' });
    stage.clock.now += 30 * DAY;
    const asleep = Promise.withResolvers<undefined>();
    const reached = Promise.withResolvers<undefined>();
    const sleeper = first.scheduler({
      act:
        (act) =>
        async (...given) => {
          reached.resolve(undefined);
          await asleep.promise;
          return act(...given);
        },
    });
    const sleeping = sleeper.scheduler.tick();
    await reached.promise;
    const second = await stage.another();
    const awake = second.scheduler();
    await awake.leader.tick();
    expect(await awake.scheduler.tick()).toMatchObject({ leads: true, actions: 1 });
    asleep.resolve(undefined);
    expect(await sleeping).toMatchObject({ actions: 0 });
    expect((await read(id)).key.latestVersion).toBe(2);
    expect(await runsOf(id)).toHaveLength(1);
  });

  it('of which one takes longer for a key than it may be silent leave it the term', async () => {
    const id = await ruled({ interval: 'P30D' });
    stage.clock.now += 30 * DAY;
    const second = await stage.another();
    const slowly: SchedulerChanges = {
      silenceMs: 800,
      act:
        (act) =>
        async (...given) => {
          await sleep(1_700);
          return act(...given);
        },
    };
    const [one, two] = [first.scheduler(slowly), second.scheduler(slowly)];
    await one.leader.tick();
    const ended = new AbortController();
    const working = one.scheduler.tick().finally(() => ended.abort());
    while (!ended.signal.aborted) {
      await two.scheduler.tick();
      await sleep(20);
    }
    expect(await working).toMatchObject({ leads: true, actions: 1 });
    expect((await read(id)).key.latestVersion).toBe(2);
    expect(two.leader.term).toBeNull();
  });

  it('of which one hangs in a key for longer than anything takes have another leader', async () => {
    const taken = await first.scheduler().leader.tick();
    const hangs = new Leader({
      ...{ store: stage.store.scheduler, role: ROLE, holder: first.instance },
      ...{ silenceMs: 50, longestWorkMs: 300 },
    });
    await asOwner('update public.leadership set holder = null');
    const term = (await hangs.tick()) ?? 0;
    expect(term).toBeGreaterThan(taken ?? 0);
    const [hung, { leader }] = [
      Promise.withResolvers<undefined>(),
      first.scheduler({ silenceMs: 50 }),
    ];
    const working = hangs.beatDuring(term, () => hung.promise);
    while ((await leader.tick()) === null) await sleep(20);
    hung.resolve(undefined);
    await working;
    expect(await hangs.tick()).toBeNull();
  });

  it('of which one lost its term has no effect, even on a key that nobody touched', async () => {
    const id = await ruled({ interval: 'P30D' });
    stage.clock.now += 30 * DAY;
    const reached = Promise.withResolvers<undefined>();
    const asleep = Promise.withResolvers<undefined>();
    const sleeper = first.scheduler({
      act:
        (act) =>
        async (...given) => {
          reached.resolve(undefined);
          await asleep.promise;
          return act(...given);
        },
    });
    const sleeping = sleeper.scheduler.tick();
    await reached.promise;
    await asOwner('update public.leadership set term = term + 1 where role = $1', [ROLE]);
    asleep.resolve(undefined);
    expect(await sleeping).toMatchObject({ actions: 0, failures: 0 });
    expect((await read(id)).key.latestVersion).toBe(1);
  });
});

describe('faults', () => {
  it('of one key stop no other, and stand beside it with their code until it works', async () => {
    const ids = await Promise.all(Array.from({ length: 3 }, () => ruled({ interval: 'P30D' })));
    const [broken = ''] = ids;
    stage.clock.now += 30 * DAY;
    const labels = await asOwner('select labels from public.key where id = $1', [broken]);
    expect(labels).toHaveLength(1);
    await asOwner(`update public.key set labels = '{"planted":"x"}' where id = $1`, [broken]);
    const { scheduler } = first.scheduler();
    expect(await scheduler.tick()).toMatchObject({ actions: 2, failures: 1 });
    expect(await scheduleOf(broken)).toEqual({ failures: 1, failure_code: 'integrity_failed' });
    expect(stage.failures.map(({ keyId }) => keyId)).toEqual([broken]);
    // It is not tried again at once, and works as soon as it can.
    expect(await scheduler.tick()).toMatchObject({ failures: 0 });
    expect((await scheduleOf(broken))?.failures).toBe(1);
    await asOwner(`update public.key set labels = '{}' where id = $1`, [broken]);
    expect(await scheduler.tick()).toMatchObject({ actions: 1, failures: 0 });
    await scheduler.tick();
    expect(await scheduleOf(broken)).toEqual({ failures: 0, failure_code: null });
    for (const id of ids) expect((await read(id)).key.primary).toBe(2);
  });

  it('of the clock make nothing due twice', async () => {
    const id = await ruled({ interval: 'P30D' });
    const { scheduler } = first.scheduler();
    stage.clock.now += 30 * DAY;
    await scheduler.tick();
    for (const days of [-29, 1, -365, 365, 28]) {
      stage.clock.now += days * DAY;
      await scheduler.tick();
    }
    expect((await read(id)).key.latestVersion).toBe(2);
  });

  it('of a clock that ran ahead and came back are told until the key is rotated by hand', async () => {
    const id = await ruled({ interval: 'P30D', retire: { keepVersions: null, after: 'P10D' } });
    const { scheduler } = first.scheduler();
    const start = stage.clock.now;
    stage.clock.now += 3_000 * DAY;
    await scheduler.tick();
    const ahead = new Date(stage.clock.now).toISOString();
    stage.clock.now = start + DAY;
    await asOwner(`update public.key_schedule set next_at = '-infinity' where key_id = $1`, [id]);
    expect(await scheduler.tick()).toMatchObject({ actions: 0, failures: 1 });
    expect(stage.failures).toMatchObject([{ keyId: id, error: { code: 'conflict' } }]);
    const page = { namespace: 'default', after: null, limit: 10 };
    const [shown, ...others] = await stage.store.scheduler.failing(page);
    expect(others).toEqual([]);
    expect(shown).toMatchObject({ keyId: id, failure: { action: 'rotate', code: 'conflict' } });
    expect(shown?.failure?.detail).toContain(`dated ${ahead}, later than now`);

    await first.keyring.manage.rotate(first.grant('keys.rotate', id), {}, aRun());
    expect(await scheduler.tick()).toMatchObject({ actions: 0, failures: 0 });
    // The first version was superseded by now at the latest, and the next rotation comes in its time.
    stage.clock.now += 10 * DAY;
    await scheduler.tick();
    expect((await read(id)).key.minUsableVersion).toBe(3);
    stage.clock.now += 20 * DAY;
    await scheduler.tick();
    expect((await read(id)).key.primary).toBe(4);
    stage.clock.now = start + 3_000 * DAY;
  });

  it('of a clock that ran ahead and came back are found by the round of the process that it happened to', async () => {
    const id = await ruled({ interval: 'P30D' });
    const { scheduler } = first.scheduler({ roundKeys: 10_000 });
    await scheduler.tick();
    const start = stage.clock.now;
    stage.clock.now += 3_000 * DAY;
    await scheduler.tick();
    expect((await read(id)).key.primary).toBe(2);
    // A round takes two ticks here: one page, and one that says that there is no other.
    for (let tick = 0; tick < 3; tick += 1) await scheduler.tick();
    stage.clock.now = start + DAY;
    for (let tick = 0; tick < 3; tick += 1) await scheduler.tick();
    expect(await scheduleOf(id)).toMatchObject({ failures: 1, failure_code: 'conflict' });
    stage.clock.now = start + 3_000 * DAY;
  });

  it('of a policy that changes while its rotation runs: the rotation begins again on what stands', async () => {
    const id = await ruled({ interval: 'P30D' });
    stage.clock.now += 30 * DAY;
    let changed = false;
    const { scheduler } = first.scheduler({
      act:
        (act) =>
        async (...given) => {
          if (!changed) {
            changed = true;
            await setPolicy(id, { interval: 'P360D' });
          }
          return act(...given);
        },
    });
    expect(await scheduler.tick()).toMatchObject({ actions: 0, failures: 0 });
    await scheduler.tick();
    expect((await read(id)).key.latestVersion).toBe(1);
  });

  it('of the list of times are found by the round', async () => {
    const id = await ruled({ interval: 'P30D' });
    const { scheduler } = first.scheduler();
    await scheduler.tick();
    await asOwner('update public.key_schedule set next_at = null where key_id = $1', [id]);
    stage.clock.now += 30 * DAY;
    expect(await scheduler.tick()).toMatchObject({ looks: 0 });
    const round = first.scheduler({ roundKeys: 10_000 });
    await round.leader.tick();
    // Of keys of other tests as well.
    expect(await round.scheduler.tick()).toMatchObject({ leads: true });
    expect((await read(id)).key.primary).toBe(2);
    // Once a day: after what the round changed, nothing is looked at.
    await round.scheduler.tick();
    expect(await round.scheduler.tick()).toMatchObject({ looks: 0 });
  });

  it('never let the same run be written twice', async () => {
    const id = await ruled({ interval: 'P30D' });
    const { scheduler, leader } = first.scheduler();
    stage.clock.now += 30 * DAY;
    await scheduler.tick();
    const [run] = await asOwner<Record<string, unknown>>(
      'select * from public.scheduled_run where key_id = $1',
      [id],
    );
    const again = first.keyring.manage.rotate(
      first.grant('keys.rotate', id),
      {},
      aRun({
        alongside: [
          {
            kind: 'insert-run',
            keyId: id,
            policyRevision: Number(run?.['policy_revision']),
            action: String(run?.['action']),
            dueAt: run?.['due_at'] as Date,
            cause: null,
            version: 3,
            doneAt: new Date(stage.clock.now),
            term: leader.term ?? 0,
          },
        ],
      }),
    );
    expect(await codeOf(again)).toBe('conflict');
    expect((await read(id)).key.latestVersion).toBe(2);
  });
});

it('rests between two keys as long as it worked, and evens out what a minute may have', async () => {
  for (let count = 0; count < 2; count += 1) await ruled({ interval: 'P30D' }, 'HS256');
  stage.clock.now += 30 * DAY;
  const rests: number[] = [];
  const { scheduler } = first.scheduler({
    perMinute: 60,
    rest: async (ms) => {
      rests.push(ms);
    },
  });
  expect(await scheduler.tick()).toMatchObject({ actions: 2 });
  const [one = 0, two = 0, ...looked] = rests;
  // 60 a minute are a second apart, of which a quarter is waited at a time.
  expect([one, two]).toEqual([250, 250]);
  expect(looked.every((ms) => ms > 0 && ms <= 250)).toBe(true);
});

it('rotates no more a minute than it may, and forgets none', async () => {
  const ids = await Promise.all(
    Array.from({ length: 7 }, () => ruled({ interval: 'P30D' }, 'HS256')),
  );
  stage.clock.now += 30 * DAY;
  const { scheduler } = first.scheduler({ perMinute: 3 });
  await scheduler.tick();
  const done: number[] = [];
  const looks: number[] = [];
  for (let tick = 0; tick < 7; tick += 1) {
    stage.clock.now += 20_000;
    const ticked = await scheduler.tick();
    done.push(ticked.actions);
    looks.push(ticked.looks);
  }
  // One each 20 s, and who waits is looked at again when it is its turn, and then because it changed.
  expect(done).toEqual([1, 1, 1, 1, 1, 1, 0]);
  expect(Math.max(...looks)).toBeLessThanOrEqual(2);
  for (const id of ids) expect((await read(id)).key.primary).toBe(2);
});

it('gives no more notices a minute than ten for each rotation that it may make, and forgets none', async () => {
  const terms = { interval: 'P30D', notice: 'P7D' };
  await Promise.all(Array.from({ length: 4 }, () => ruled(terms, 'HS256')));
  stage.clock.now += 24 * DAY;
  const { scheduler } = first.scheduler({ perMinute: 0.3 });
  const done: number[] = [];
  for (let tick = 0; tick < 5; tick += 1) {
    done.push((await scheduler.tick()).actions);
    stage.clock.now += 20_000;
  }
  expect(done).toEqual([1, 1, 1, 1, 0]);
});

it('does what else is due of a key that waits for its turn, which it keeps', async () => {
  const ids = await Promise.all(
    Array.from({ length: 4 }, () => ruled({ interval: 'P30D' }, 'HS256')),
  );
  const start = stage.clock.now;
  const deactivateAt = new Date(start + 30 * DAY + 80_000);
  for (const id of ids) {
    await first.keyring.manage.rotate(first.grant('keys.rotate', id), {}, aRun());
    const input = { version: 1, deactivateAt };
    await first.keyring.lifecycle.scheduleVersion(
      first.grant('versions.schedule', id),
      input,
      aRun(),
    );
  }
  const { scheduler } = first.scheduler({ perMinute: 1 });
  stage.clock.now = start + 30 * DAY;
  await scheduler.tick();
  const rotated: number[] = [];
  for (const seconds of [81, 121, 141, 201]) {
    stage.clock.now = start + 30 * DAY + seconds * 1_000;
    await scheduler.tick();
    const views = await Promise.all(ids.map(read));
    expect(views.map(({ versions }) => versions[0]?.state)).toEqual(ids.map(() => 'deactivated'));
    rotated.push(views.filter(({ key }) => key.primary === 3).length);
  }
  expect(rotated).toEqual([2, 2, 3, 4]);
});

it('looks at a key that failed when something else of it is due, not only when it tries again', async () => {
  const id = await ruled({ interval: 'P30D' }, 'HS256');
  const start = stage.clock.now;
  await first.keyring.manage.rotate(first.grant('keys.rotate', id), {}, aRun());
  const { scheduler } = first.scheduler({
    act: (act) => (grant, action, run) =>
      action.kind === 'rotate'
        ? Promise.reject(new TwofoldError('hsm_full'))
        : act(grant, action, run),
  });
  stage.clock.now = start + 30 * DAY;
  // Until it is left alone for an hour.
  for (let look = 0; look < 12; look += 1) {
    await scheduler.tick();
    stage.clock.now += 3_600_000;
  }
  const deactivateAt = new Date(stage.clock.now + 120_000);
  const input = { version: 1, deactivateAt };
  await first.keyring.lifecycle.scheduleVersion(
    first.grant('versions.schedule', id),
    input,
    aRun(),
  );
  await scheduler.tick();
  stage.clock.now += 121_000;
  await scheduler.tick();
  expect((await read(id)).versions[0]?.state).toBe('deactivated');
  expect(await scheduleOf(id)).toMatchObject({ failure_code: 'hsm_full' });
});

describe('what an operator did by hand', () => {
  it('is brought in line with its policy again: a window that was opened closes', async () => {
    const id = await ruled({ interval: 'P30D', retire: { keepVersions: 1, after: null } });
    const { scheduler } = first.scheduler();
    stage.clock.now += 30 * DAY;
    await scheduler.tick();
    expect((await read(id)).key.minUsableVersion).toBe(2);
    const open = { minUsableVersion: 1 };
    await first.keyring.manage.update(first.grant('keys.update', id), open, aRun());
    await scheduler.tick();
    expect((await read(id)).key.minUsableVersion).toBe(2);
    stage.clock.now += 30 * DAY;
    await scheduler.tick();
    expect((await read(id)).key.latestVersion).toBe(3);
    expect(stage.failures).toEqual([]);
  });
});

describe('what cannot be done', () => {
  it('is tried again after a while, also beside what is overdue and was not tried', async () => {
    const id = await ruled({ interval: 'P300D' }, 'HS256');
    const start = stage.clock.now;
    const { lifecycle, manage } = first.keyring;
    const deactivateAt = new Date(start + 31 * DAY);
    await manage.rotate(first.grant('keys.rotate', id), {}, aRun());
    const version = first.grant('versions.schedule', id);
    await lifecycle.scheduleVersion(version, { version: 1, deactivateAt }, aRun());
    const doomed = { after: 'P30D', reason: 'a drill' };
    const { revision: ifMatch } = (await read(id)).key;
    const destruction = first.grant('keys.schedule-destruction', id);
    await lifecycle.scheduleDestruction(destruction, doomed, aRun({ ifMatch }));
    let tries = 0;
    const { scheduler } = first.scheduler({
      act: () => () => {
        tries += 1;
        return Promise.reject(new TwofoldError('hsm_unavailable'));
      },
    });
    stage.clock.now = start + 32 * DAY;
    for (let tick = 0; tick < 5; tick += 1) {
      await scheduler.tick();
      stage.clock.now += 1_000;
    }
    expect(tries).toBe(1);
  });

  it('is an upgrade, and the key goes on rotating in its suite', async () => {
    const to = numberOf('MLKEM1024-P384');
    const upgrade = { suite: to, notBefore: new Date(stage.clock.now) };
    const id = await ruled({ interval: 'P30D', upgrade }, 'MLKEM768-P256');
    const { scheduler } = first.scheduler({
      act: (act) => (grant, action, run) =>
        action.kind === 'rotate' && action.suite === to
          ? Promise.reject(new TwofoldError('suite_unavailable_here'))
          : act(grant, action, run),
    });
    await scheduler.tick();
    expect((await read(id)).key.primary).toBe(1);
    expect(await scheduleOf(id)).toMatchObject({ failure_code: 'suite_unavailable_here' });
    for (const primary of [2, 3]) {
      stage.clock.now += 30 * DAY;
      await scheduler.tick();
      const { key, versions } = await read(id);
      expect(key.primary).toBe(primary);
      expect(versions.at(-1)?.suite).toBe(numberOf('MLKEM768-P256'));
      expect(await scheduleOf(id)).toMatchObject({ failure_code: 'suite_unavailable_here' });
    }
  });

  it('is a failure from the second look on, and holds up no other key', async () => {
    const ids = await Promise.all(Array.from({ length: 3 }, () => ruled({ interval: 'P30D' })));
    stage.clock.now += 30 * DAY;
    const [poisoned = ''] = ids;
    const { scheduler } = first.scheduler({
      act: (act) => (grant, action, run) =>
        (run.alongside ?? []).some((write) => 'keyId' in write && write.keyId === poisoned)
          ? Promise.reject(new TwofoldError('conflict'))
          : act(grant, action, run),
    });
    await scheduler.tick();
    await scheduler.tick();
    expect(await scheduleOf(poisoned)).toEqual({ failures: 1, failure_code: 'conflict' });
    for (const id of ids.slice(1)) expect((await read(id)).key.primary).toBe(2);
  });

  it('stands in the way of nothing else that is due of its key', async () => {
    const id = await ruled({ interval: 'P30D' });
    const { lifecycle } = first.keyring;
    const deactivateAt = new Date(stage.clock.now + 40 * DAY);
    const { scheduler } = first.scheduler({
      act: (act) => (grant, action, run) =>
        action.kind === 'rotate'
          ? Promise.reject(new TwofoldError('hsm_full'))
          : act(grant, action, run),
    });
    const grant = first.grant('versions.schedule', id);
    await lifecycle.scheduleVersion(grant, { version: 1, deactivateAt }, aRun());
    stage.clock.now += 40 * DAY;
    await scheduler.tick();
    expect((await read(id)).versions[0]?.state).toBe('deactivated');
    expect(stage.failures.map(({ error }) => TwofoldError.from(error).code)).toEqual(['hsm_full']);
  });

  it('also where a notice meets a conflict again and again', async () => {
    const id = await ruled({ interval: 'P90D', notice: 'P14D' });
    const deactivateAt = new Date(stage.clock.now + 40 * DAY);
    await first.keyring.lifecycle.scheduleVersion(
      first.grant('versions.schedule', id),
      { version: 1, deactivateAt },
      aRun(),
    );
    const { scheduler } = first.scheduler({
      act: (act) => (grant, action, run) =>
        action.kind === 'notice'
          ? Promise.reject(new TwofoldError('conflict'))
          : act(grant, action, run),
    });
    const destroyAt = new Date(stage.clock.now + 50 * DAY);
    stage.clock.now += 40 * DAY;
    await first.keyring.lifecycle.scheduleDestruction(
      first.grant('keys.schedule-destruction', id),
      { at: destroyAt, reason: 'a drill' },
      aRun({ ifMatch: (await read(id)).key.revision }),
    );
    await scheduler.tick();
    expect((await read(id)).versions[0]?.state).toBe('active');
    await scheduler.tick();
    expect((await read(id)).versions[0]?.state).toBe('deactivated');
    // What the deactivation changed is looked at first.
    await scheduler.tick();
    await scheduler.tick();
    expect(await scheduleOf(id)).toEqual({ failures: 1, failure_code: 'conflict' });
  });
});
