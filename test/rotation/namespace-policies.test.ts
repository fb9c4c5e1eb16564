/** Policies of a namespace on a real database: found when altered, in force at once, looked at by all. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { ERRORS, TwofoldError } from '../../src/errors.ts';
import type { PauseRun, PolicyRun } from '../../src/keyring/namespace-policies.ts';
import type { PolicyTerms } from '../../src/keyring/rotation-policy.ts';
import type { Labels } from '../../src/keyring/model.ts';
import { RotationReading } from '../../src/rotation/reading.ts';
import type {
  NamedRun,
  RunPosition,
  WatchedKey,
  WatchPosition,
} from '../../src/rotation/scheduler-ports.ts';
import { aRun, codeOf } from '../keyring/world.ts';
import { rowsAsOwner } from '../store/owner.ts';
import { DAY, openStage, TERMS } from './stage.ts';
import type { Actor, Stage } from './stage.ts';

let stage: Stage;
let first: Actor;
beforeAll(async () => {
  stage = await openStage();
  first = stage.first;
}, 60_000);
afterAll(() => stage.stop(), 60_000);

const asOwner = <T = unknown>(sql: string, values: unknown[] = []): Promise<T[]> =>
  rowsAsOwner<T>(stage.database, sql, values);
/** Each test begins without policies, and with nobody who leads. */
beforeEach(async () => {
  for (const { name } of (await list()).policies) await drop(name);
  await asOwner('update public.key_schedule set next_at = null');
  await asOwner('update public.leadership set holder = null');
  stage.clock.now += 400 * DAY;
});

const list = (actor = first) => actor.ruling.list(actor.grant('rotations.read', null));
const change = (actor = first) => actor.grant('rotation-policies.change', null);
const runOf = (ifMatch: number | null = null): PolicyRun => ({
  ...aRun(),
  ifMatch,
  render: ({ after }) => ({ status: 200, body: JSON.stringify(after?.name ?? null) }),
});
interface Given {
  readonly selector?: Labels;
  readonly ifMatch?: number;
  readonly actor?: Actor;
}
const put = (name: string, terms: Partial<PolicyTerms>, given: Given = {}) =>
  (given.actor ?? first).ruling.put(
    change(given.actor),
    { name, selector: given.selector ?? {}, priority: 0, terms: { ...TERMS, ...terms } },
    runOf(given.ifMatch ?? null),
  );
const drop = (name: string) => first.ruling.delete(change(), name, runOf());
const primaryOf = async (id: string) =>
  (await first.keyring.read.fresh(first.grant('keys.read', id))).key.primary;

describe('a policy of a namespace', () => {
  it('has revisions that rise over all policies, also after a deletion', async () => {
    const before = (await list()).revision;
    await put('a', { interval: 'P30D' });
    await put('b', { interval: 'P60D' });
    await drop('a');
    await put('a', { interval: 'P30D' });
    const { revision, policies } = await list();
    expect(revision).toBe(before + 4);
    expect(policies.map(({ name, policy }) => [name, policy.revision])).toEqual([
      ['a', before + 4],
      ['b', before + 2],
    ]);
  });

  it('is changed by its revision alone, and not by a change that says the same', async () => {
    await put('a', { interval: 'P30D' });
    const { revision } = await list();
    expect(await codeOf(put('a', { interval: 'P60D' }))).toBe('precondition_required');
    expect(await codeOf(put('a', { interval: 'P60D' }, { ifMatch: revision - 1 }))).toBe(
      'etag_mismatch',
    );
    await put('a', { interval: 'P30D' }, { ifMatch: revision });
    expect((await list()).revision).toBe(revision);
    await put('a', { interval: 'P60D' }, { ifMatch: revision });
    expect((await list()).revision).toBe(revision + 1);
  });

  it('keeps its pause when its terms change', async () => {
    await put('a', { interval: 'P30D' });
    await first.ruling.pause(change(), { name: 'a', reason: 'freeze' }, runOf());
    const { revision } = await list();
    await put('a', { interval: 'P60D' }, { ifMatch: revision });
    const [policy] = (await list()).policies;
    expect(policy?.policy).toMatchObject({ interval: 'P60D', paused: { reason: 'freeze' } });
  });

  it('is known to another instance as soon as that has learnt the change', async () => {
    const second = await stage.another();
    expect((await second.ruling.of('default')).policies).toEqual([]);
    await put('a', { interval: 'P30D' });
    await second.create();
    expect((await second.ruling.of('default')).policies).toMatchObject([{ name: 'a' }]);
  });
});

describe('policies that were altered in the database', () => {
  it.each([
    [
      'inserted',
      `insert into public.rotation_policy select namespace, 'z', selector, priority, policy, mac from public.rotation_policy where name = 'a'`,
      `delete from public.rotation_policy where name = 'z'`,
    ],
    ['deleted', `delete from public.rotation_policy where name = 'b'`, null],
    [
      'changed',
      `update public.rotation_policy set priority = 7 where name = 'a'`,
      `update public.rotation_policy set priority = 0 where name = 'a'`,
    ],
    ['without their seal', `delete from public.rotation_policy_set`, null],
  ])('are found: %s', async (_how, sql, undo) => {
    await put('a', { interval: 'P30D' });
    await put('b', { interval: 'P60D' });
    const kept = await asOwner<{ s: unknown }>(
      'select to_jsonb(s) as s from public.rotation_policy_set s',
    );
    const rows = await asOwner<{ p: unknown }>(
      'select to_jsonb(p) as p from public.rotation_policy p',
    );
    await asOwner(sql);
    expect(await codeOf(list())).toBe('integrity_failed');
    expect(first.keyring.integrity.altered).toBe(1);
    if (undo !== null) await asOwner(undo);
    for (const { p } of rows) {
      await asOwner(
        `insert into public.rotation_policy select (jsonb_populate_record(null::public.rotation_policy, $1)).* on conflict do nothing`,
        [p],
      );
    }
    for (const { s } of kept) {
      await asOwner(
        `insert into public.rotation_policy_set select (jsonb_populate_record(null::public.rotation_policy_set, $1)).* on conflict do nothing`,
        [s],
      );
    }
    await first.keyring.integrity.recheck();
    expect(first.keyring.integrity.altered).toBe(0);
  });

  it('are found when an earlier state of one of them is put back', async () => {
    await put('a', { interval: 'P30D' });
    const [old] = await asOwner<{ p: unknown }>(
      `select to_jsonb(p) as p from public.rotation_policy p where name = 'a'`,
    );
    await put('a', { interval: 'P60D' }, { ifMatch: (await list()).revision });
    const replace = `update public.rotation_policy p set policy = o.policy, mac = o.mac
      from jsonb_populate_record(null::public.rotation_policy, $1) o where p.name = 'a'`;
    const [now] = await asOwner<{ p: unknown }>(
      `select to_jsonb(p) as p from public.rotation_policy p where name = 'a'`,
    );
    await asOwner(replace, [old?.p]);
    expect(await codeOf(list())).toBe('integrity_failed');
    await asOwner(replace, [now?.p]);
    expect((await list()).policies).toHaveLength(1);
  });
});

describe('the scheduler', () => {
  it('looks at every key of a namespace whose policies changed, in bounded steps', async () => {
    const selector = { tier: 'gold' };
    const ids = await Promise.all(
      Array.from({ length: 7 }, () => first.create({ suite: 'HS256', labels: selector })),
    );
    const { scheduler } = first.scheduler({ marks: 2 });
    for (let tick = 0; tick < 9; tick += 1) await scheduler.tick();
    stage.clock.now += 31 * DAY;
    await scheduler.tick();
    await put('gold', { interval: 'P30D' }, { selector });
    // A crash between two steps: another process goes on where the first was.
    await scheduler.tick();
    const second = (await stage.another()).scheduler({ marks: 3 }).scheduler;
    for (let tick = 0; tick < 30; tick += 1) await second.tick();
    for (const id of ids) expect(await primaryOf(id)).toBe(2);
    expect(await asOwner('select done from public.rotation_policy_round')).toEqual([
      { done: true },
    ]);
    expect(await stage.store.policies.markNext(1)).toBeNull();
  });

  it('does nothing for a policy once its deletion was answered, though it had begun', async () => {
    const selector = { tier: 'iron' };
    const id = await first.create({ suite: 'HS256', labels: selector });
    await put('iron', { interval: 'P30D' }, { selector });
    stage.clock.now += 31 * DAY;
    const asleep = Promise.withResolvers<undefined>();
    const reached = Promise.withResolvers<undefined>();
    await asOwner(`update public.key_schedule set next_at = '-infinity' where key_id = $1`, [id]);
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
    await drop('iron');
    asleep.resolve(undefined);
    await sleeping;
    expect(await primaryOf(id)).toBe(1);
  });
});

describe('the pause of a whole namespace', () => {
  const pauseRun = (ifMatch: number | null = null): PauseRun => ({
    ...aRun(),
    ifMatch,
    render: ({ revision }) => ({ status: 200, body: String(revision) }),
  });
  const pause = (reason = 'end of year') => first.ruling.pauseAll(change(), reason, pauseRun());
  const resume = () => first.ruling.resumeAll(change(), 'over', pauseRun());
  const ownPolicy = async (id: string, terms: Partial<PolicyTerms>) =>
    first.keyring.manage.changeRotation(
      first.grant('keys.set-rotation', id),
      { kind: 'set', terms: { ...TERMS, ...terms } },
      aRun(),
    );
  const readingOf = (id: string) =>
    new RotationReading({
      read: first.keyring.read,
      store: stage.store.scheduler,
      policies: first.ruling,
      clock: () => new Date(stage.clock.now),
    }).ofKey(first.grant('keys.read', id));
  afterEach(resume);

  it('holds for keys with policies of their own and of the namespace, and ends for both', async () => {
    const own = await first.create({ suite: 'HS256' });
    await ownPolicy(own, { interval: 'P30D' });
    const given = await first.create({ suite: 'HS256', labels: { tier: 'tin' } });
    await put('tin', { interval: 'P30D' }, { selector: { tier: 'tin' } });
    await pause();
    stage.clock.now += 31 * DAY;
    const { scheduler } = first.scheduler();
    for (let tick = 0; tick < 3; tick += 1) await scheduler.tick();
    expect([await primaryOf(own), await primaryOf(given)]).toEqual([1, 1]);
    for (const id of [own, given]) {
      expect(await readingOf(id)).toMatchObject({
        paused: { by: 'namespace', reason: 'end of year' },
        due: [],
        nextAt: null,
      });
    }
    await resume();
    for (let tick = 0; tick < 3; tick += 1) await scheduler.tick();
    expect([await primaryOf(own), await primaryOf(given)]).toEqual([2, 2]);
    expect((await readingOf(own)).paused).toBeNull();
  });

  it('does not hold the limit of AES-GCM, nor what was set in advance', async () => {
    const [full, ending] = [await first.create({ suite: 'A256GCM' }), await first.create()];
    await pause();
    await asOwner(
      `insert into public.usage_counter (counter, used) values ($1, $2)
        on conflict (counter) do update set used = excluded.used`,
      [`${full}/1`, 2 ** 31],
    );
    const deactivateAt = new Date(stage.clock.now + DAY);
    const grant = first.grant('versions.schedule', ending);
    await first.keyring.lifecycle.scheduleVersion(grant, { version: 1, deactivateAt }, aRun());
    stage.clock.now += DAY;
    const { scheduler } = first.scheduler();
    for (let tick = 0; tick < 3; tick += 1) await scheduler.tick();
    expect(await primaryOf(full)).toBe(2);
    const { versions } = await first.keyring.read.fresh(first.grant('keys.read', ending));
    expect(versions[0]?.state).toBe('deactivated');
  });

  it('once answered lets nothing through that had begun, by a key’s own policy either', async () => {
    const id = await first.create({ suite: 'HS256' });
    await ownPolicy(id, { interval: 'P30D' });
    stage.clock.now += 31 * DAY;
    const [asleep, reached] = [
      Promise.withResolvers<undefined>(),
      Promise.withResolvers<undefined>(),
    ];
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
    await pause();
    asleep.resolve(undefined);
    await sleeping;
    expect(await primaryOf(id)).toBe(1);
  });

  it('outlives changes of policies, is kept as first given, and is made for a revision', async () => {
    await pause('first');
    const { revision } = await list();
    await pause('second');
    expect((await list()).revision).toBe(revision);
    await put('a', { interval: 'P30D' });
    await drop('a');
    expect((await list()).paused).toMatchObject({ reason: 'first' });
    const stale = first.ruling.resumeAll(change(), 'x', pauseRun(revision));
    expect(await codeOf(stale)).toBe('etag_mismatch');
  });

  it('is known to another instance as soon as that has learnt the change', async () => {
    const second = await stage.another();
    expect((await second.ruling.of('default')).paused).toBeNull();
    await pause();
    await second.create();
    expect((await second.ruling.of('default')).paused).toMatchObject({ reason: 'end of year' });
  });

  it('is found when it is taken away, or planted, in the database', async () => {
    await pause();
    const [row] = await asOwner<{ paused: unknown }>(
      'select paused from public.rotation_policy_set',
    );
    const write = (paused: unknown) =>
      asOwner('update public.rotation_policy_set set paused = $1, revision = revision', [paused]);
    // The owner can turn off what only lets revisions rise.
    const guard = 'rotation_policy_set_onward';
    await asOwner(`alter table public.rotation_policy_set disable trigger ${guard}`);
    await write(null);
    expect(await codeOf(list())).toBe('integrity_failed');
    await write({ at: '2020-01-01T00:00:00.000Z', reason: 'forged' });
    expect(await codeOf(list())).toBe('integrity_failed');
    await write(row?.paused);
    await asOwner(`alter table public.rotation_policy_set enable trigger ${guard}`);
    await first.keyring.integrity.recheck();
    expect((await list()).paused).not.toBeNull();
  });
});

describe('what is shown of a namespace', () => {
  const reading = () =>
    new RotationReading({
      read: first.keyring.read,
      store: stage.store.scheduler,
      policies: first.ruling,
      clock: () => new Date(stage.clock.now),
    });
  const grant = () => first.grant('rotations.read', null);
  const all = { after: null, limit: 1_000 };
  /** Every key was looked at for the policies that stand. */
  const settled = async () => {
    const { scheduler } = first.scheduler();
    for (let tick = 0; tick < 4; tick += 1) await scheduler.tick();
  };

  it('is what fails, since when and why, and what is late', async () => {
    await put('all', { interval: 'P30D' });
    const ids = [await first.create({ suite: 'HS256' }), await first.create({ suite: 'HS256' })];
    const [broken = '', waiting = ''] = ids;
    await settled();
    stage.clock.now += 31 * DAY;
    const fails = first.scheduler({
      act: (act) => (of, action, run) =>
        (run.alongside ?? []).some((write) => 'keyId' in write && write.keyId === broken)
          ? Promise.reject(new TwofoldError('hsm_full'))
          : act(of, action, run),
      perMinute: 1,
    });
    await asOwner(`update public.key_schedule set next_at = null where not key_id = any($1)`, [
      ids,
    ]);
    // The failing one is taken up first, and has the one rotation of the minute.
    await asOwner(`update public.key_schedule set next_at = '2020-01-01' where key_id = $1`, [
      broken,
    ]);
    await asOwner(`update public.key_schedule set next_at = '2020-01-02' where key_id = $1`, [
      waiting,
    ]);
    const began = stage.clock.now;
    await fails.leader.tick();
    await fails.scheduler.tick();
    stage.clock.now += 3 * 3_600_000;
    await asOwner(`update public.key_schedule set next_at = '2020-01-01' where key_id = $1`, [
      broken,
    ]);
    await fails.scheduler.tick();
    const failing = await reading().watched(grant(), 'failing', all);
    expect(failing).toMatchObject([
      {
        keyId: broken,
        since: new Date(began),
        failure: {
          code: 'hsm_full',
          count: 2,
          action: 'rotate',
          detail: ERRORS.hsm_full.title,
          since: new Date(began),
          at: new Date(stage.clock.now),
          nextAttemptAt: new Date(stage.clock.now + 10_000),
        },
      },
    ]);
    expect((await reading().ofKey(first.grant('keys.read', broken))).failure).toEqual(
      failing[0]?.failure,
    );
    // The release before says no more than the code and the time, and leaves what stood beside them.
    await asOwner(
      `update public.key_schedule set failure_code = 'hsm_busy', failed_at = failed_at + interval '1 s'
        where key_id = $1`,
      [broken],
    );
    const [older] = await reading().watched(grant(), 'failing', all);
    expect(older?.failure).toMatchObject({ code: 'hsm_busy', action: null, detail: null });
    const late = (await reading().watched(grant(), 'late', all)).map(({ keyId }) => keyId);
    expect(late).toContain(broken);
    await asOwner(`update public.key_schedule set next_at = '-infinity' where key_id = any($1)`, [
      ids,
    ]);
    await settled();
    expect(await reading().watched(grant(), 'failing', all)).toEqual([]);
    const still = (await reading().watched(grant(), 'late', all)).map(({ keyId }) => keyId);
    expect(still.filter((id) => ids.includes(id))).toEqual([]);
    const [newest] = await reading().done(grant(), { after: null, limit: 1 });
    expect(ids).toContain(newest?.keyId);
  });

  it('is late too while nobody looks, and is read page by page', async () => {
    await put('all', { interval: 'P30D' });
    const ids = await Promise.all([1, 2, 3].map(() => first.create({ suite: 'HS256' })));
    await settled();
    stage.clock.now += 40 * DAY;
    const seen: string[] = [];
    for (let after: WatchPosition | null = null; ;) {
      const [next]: readonly WatchedKey[] = await reading().watched(grant(), 'late', {
        after,
        limit: 1,
      });
      if (next === undefined) break;
      seen.push(next.keyId);
      after = { at: next.since, keyId: next.keyId, action: '' };
    }
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen).toEqual(expect.arrayContaining(ids));
    await settled();
    const runs: string[] = [];
    for (let after: WatchPosition | null = null; ;) {
      const [next]: readonly NamedRun[] = await reading().done(grant(), { after, limit: 1 });
      if (next === undefined) break;
      runs.push(`${next.keyId}/${next.action}`);
      after = { at: next.doneAt, keyId: next.keyId, action: next.action };
    }
    expect(new Set(runs).size).toBe(runs.length);
    expect(runs).toEqual(expect.arrayContaining(ids.map((id) => `${id}/rotate/1/1`)));
  });

  it('is no rotation by use that has just come due', async () => {
    const id = await first.create({ suite: 'HS256' });
    await asOwner(
      `insert into public.usage_counter (counter, used) values ($1, 64)
        on conflict (counter) do update set used = 64`,
      [`${id}/1`],
    );
    await put('all', { maxUses: 64 });
    stage.clock.now += DAY;
    expect(await reading().ofKey(first.grant('keys.read', id))).toMatchObject({
      due: [{ cause: 'uses' }],
      late: false,
    });
  });
});

describe('what is shown of a key', () => {
  it('names the policy in effect, those it won over, what is due and what was done', async () => {
    const selector = { tier: 'zinc' };
    const id = await first.create({ suite: 'HS256', labels: selector });
    await put('all', { interval: 'P90D' });
    await put('zinc', { interval: 'P30D' }, { selector });
    const reading = new RotationReading({
      read: first.keyring.read,
      store: stage.store.scheduler,
      policies: first.ruling,
      clock: () => new Date(stage.clock.now),
    });
    const ask = () => reading.ofKey(first.grant('keys.read', id));
    const quiet = await ask();
    expect(quiet.effective?.reason).toBe('more-labels');
    expect(quiet.effective?.candidates.map(({ name }) => name)).toEqual(['zinc', 'all']);
    expect(quiet).toMatchObject({ due: [], late: false, failure: null });
    stage.clock.now = (quiet.nextAt?.getTime() ?? 0) + DAY;
    expect(await ask()).toMatchObject({ due: [{ kind: 'rotate', primary: 1 }], late: true });
    await first.scheduler().scheduler.tick();
    await first.scheduler().scheduler.tick();
    const { runs } = await reading.history(first.grant('keys.read', id), { after: null, limit: 5 });
    expect(runs).toMatchObject([{ action: 'rotate/1/1', cause: 'interval', version: 2 }]);
    const [last] = runs;
    const rest = await reading.history(first.grant('keys.read', id), {
      after: last ?? null,
      limit: 5,
    });
    expect(rest.runs).toEqual([]);
  });

  it('has its rotations by hand among those that were due, in the order of time', async () => {
    const id = await first.create({ suite: 'HS256', labels: { tier: 'tin' } });
    await put('tin', { interval: 'P30D' }, { selector: { tier: 'tin' } });
    const { keyring } = first;
    const rotate = () => keyring.manage.rotate(first.grant('keys.rotate', id), {}, aRun());
    const reading = new RotationReading({
      read: keyring.read,
      store: stage.store.scheduler,
      policies: first.ruling,
      clock: () => new Date(stage.clock.now),
    });
    stage.clock.now += DAY;
    const byHand = new Date(stage.clock.now);
    await rotate();
    stage.clock.now += 31 * DAY;
    const { scheduler } = first.scheduler();
    await scheduler.tick();
    await scheduler.tick();
    stage.clock.now += DAY;
    const input = { version: 3, reason: 'a leak', replace: true };
    await keyring.lifecycle.compromiseVersion(
      first.grant('versions.compromise', id),
      input,
      aRun(),
    );
    const page = async (after: RunPosition | null, limit: number) =>
      (await reading.history(first.grant('keys.read', id), { after, limit })).runs;
    const all = await page(null, 10);
    expect(all).toMatchObject([
      { action: 'by-hand/2', cause: 'by-hand', version: 2, doneAt: byHand, dueAt: byHand },
      { action: 'rotate/2/2', cause: 'interval', version: 3 },
      { action: 'by-hand/4', cause: 'by-hand', version: 4 },
    ]);
    const paged = [];
    for (let last: RunPosition | null = null; ; last = paged.at(-1) ?? null) {
      const [next] = await page(last, 1);
      if (next === undefined) break;
      paged.push(next);
    }
    expect(paged).toEqual(all);
  });
});
