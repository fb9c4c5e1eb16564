/** Policies of a namespace on a real database: found when altered, in force at once, looked at by all. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { PolicyRun } from '../../src/keyring/namespace-policies.ts';
import type { PolicyTerms } from '../../src/keyring/rotation-policy.ts';
import type { Labels } from '../../src/keyring/model.ts';
import { RotationReading } from '../../src/rotation/reading.ts';
import { aRun, codeOf } from '../keyring/world.ts';
import { withClient } from '../store/owner.ts';
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
  withClient(
    stage.database.ownerUrl,
    async (client) => (await client.query(sql, values)).rows as T[],
  );
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
});
