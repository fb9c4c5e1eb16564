/** What dry runs of changes of policies say, beside what the changes then do. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { PolicyEffects } from '../../src/keyring/policy-effects.ts';
import type { PauseRun, PolicyRun } from '../../src/keyring/namespace-policies.ts';
import type { PolicyTerms } from '../../src/keyring/rotation-policy.ts';
import type { Labels } from '../../src/keyring/model.ts';
import { PolicyEffectPreviews, statementsOf } from '../../src/rotation/policy-effects.ts';
import { rankPolicies } from '../../src/keyring/selector-policy.ts';
import { aRun } from '../keyring/world.ts';
import { policy } from '../keyring/policies.ts';
import { rowsAsOwner } from '../store/owner.ts';
import { DAY, openStage, TERMS } from './stage.ts';
import type { Actor, Stage } from './stage.ts';

let stage: Stage;
let first: Actor;
let label = 0;
/** Each test has keys of its own label. */
let labels: Labels;
beforeAll(async () => {
  stage = await openStage();
  first = stage.first;
}, 60_000);
afterAll(() => stage.stop(), 60_000);
beforeEach(() => {
  label += 1;
  labels = { of: String(label) };
});

const change = () => first.grant('rotation-policies.change', null);
let seen: PolicyEffects[] = [];
const run = (dryRun: boolean, ifMatch: number | null = null): PolicyRun & PauseRun => ({
  ...aRun(),
  dryRun,
  ifMatch,
  render: ({ effects }) => {
    if (effects !== undefined) seen.push(effects);
    return { status: 200, body: '' };
  },
});
/** What the dry run of a change says. */
const told = async (act: (run: PolicyRun & PauseRun) => Promise<unknown>, ifMatch?: number) => {
  const effects: PolicyEffects[] = [];
  seen = effects;
  await act(run(true, ifMatch));
  const [only] = effects;
  if (only === undefined) throw new Error('the dry run told nothing');
  return only;
};
const put = (name: string, terms: Partial<PolicyTerms>, selector = labels) => {
  const input = { name, selector, priority: 0, terms: { ...TERMS, ...terms } };
  return (by: PolicyRun) => first.ruling.put(change(), input, by);
};
const make = async (given: Labels = labels): Promise<string> =>
  first.create({ suite: 'A256GCM', labels: given });
const rotate = (id: string) =>
  first.keyring.manage.rotate(first.grant('keys.rotate', id), {}, aRun());
const wrap = (id: string) => first.wrap(id, 'x');
const read = (id: string) => first.keyring.read.fresh(first.grant('keys.read', id));
const tickAll = async () => {
  const { scheduler } = first.scheduler({ marks: 10_000 });
  while ((await scheduler.tick()).looks > 0);
};
const GREEDY = { keepVersions: 1, after: null };

describe('the dry run of a policy of the namespace', () => {
  it('says which keys it governs, and of which others it takes and leaves them', async () => {
    const both = { ...labels, tier: 'gold' };
    for (let n = 0; n < 3; n += 1) await make();
    const own = await make(both);
    await make(both);
    await make({ other: 'label' });
    const set = { kind: 'set', terms: { ...TERMS, interval: 'P90D' } } as const;
    await first.keyring.manage.changeRotation(first.grant('keys.set-rotation', own), set, aRun());
    const name = `base-${String(label)}`;
    const made = await told(put(name, { interval: 'P90D' }));
    expect(made).toMatchObject({
      keys: { examined: 5, complete: true, selected: 5, governed: 4 },
      moved: [{ from: null, to: name, keys: 4 }],
      rotations: { atOnce: 0, held: 0, minutes: 0 },
      retirements: { atOnce: 0, announced: 0, from: null, recent: [] },
    });
    await put(name, { interval: 'P90D' })(run(false));
    expect(await told(put('gold', { interval: 'P30D' }, both))).toMatchObject({
      keys: { selected: 2, governed: 1 },
      moved: [{ from: name, to: 'gold', keys: 1 }],
    });
    expect(await told((by) => first.ruling.delete(change(), name, by))).toMatchObject({
      keys: { selected: 5, governed: 4 },
      moved: [{ from: name, to: null, keys: 4 }],
    });
    // Nothing of it was done.
    expect((await first.ruling.current('default')).policies.map((each) => each.name)).toEqual([
      name,
    ]);
    await first.ruling.delete(change(), name, run(false));
  });

  it('counts what rotates and closes at once, as it then does, with the last use of what closes', async () => {
    const [used, other, single] = [await make(), await make(), await make()];
    const ids = [used, other, single];
    for (const id of ids.slice(0, 2)) await rotate(id);
    await wrap(used);
    await first.keyring.ledger.flush();
    stage.clock.now += 100 * DAY;
    const effects = await told(put('closing', { interval: 'P90D', retire: GREEDY }));
    // All three rotate, and what that supersedes is closed too: the version that was just used.
    expect(effects).toMatchObject({
      rotations: { atOnce: 3, held: 0, minutes: 1 },
      retirements: {
        atOnce: 5,
        announced: 0,
        keys: 3,
        protect: { uses: 1 },
        process: { uses: 0, lastAt: null },
        summed: true,
      },
    });
    expect(effects.retirements.recent[0]).toMatchObject({ keyId: used, versions: 2 });
    expect(effects.retirements.protect.lastAt).toBeInstanceOf(Date);
    await put('closing', { interval: 'P90D', retire: GREEDY })(run(false));
    await tickAll();
    const closed = await Promise.all(ids.map(async (id) => (await read(id)).key.minUsableVersion));
    expect(closed).toEqual([3, 3, 2]);
    expect((await read(single)).key.primary).toBe(2);
    await first.ruling.delete(change(), 'closing', run(false));
  });

  it('under a notice announces what it would close, and says from when on', async () => {
    const id = await make();
    await rotate(id);
    const effects = await told(put('polite', { retire: GREEDY, notice: 'P7D' }));
    const from = new Date(stage.clock.now + 7 * DAY);
    expect(effects.retirements).toMatchObject({ atOnce: 0, announced: 1, from, keys: 1 });
  });

  it('counts what a shorter notice brings forward, and leaves out what closes in any case', async () => {
    const id = await make();
    for (let n = 0; n < 5; n += 1) {
      await wrap(id);
      await rotate(id);
    }
    await first.keyring.ledger.flush();
    const long = { retire: { keepVersions: 3, after: null }, notice: 'P90D' };
    await put('kept', long)(run(false));
    const revision = (await first.ruling.current('default')).revision;
    const toldOf = (terms: Partial<PolicyTerms>) => told(put('kept', terms), revision);
    expect((await toldOf({ ...long, notice: 'PT1H' })).retirements).toMatchObject({
      announced: 3,
      from: new Date(stage.clock.now + DAY / 24),
      recent: [{ keyId: id, versions: 3 }],
      protect: { uses: 3 },
    });
    expect((await toldOf({ ...long, notice: 'P91D' })).retirements).toMatchObject({ announced: 0 });
    // Six versions: three close in any case, two more by the change, and those alone are summed.
    expect((await toldOf({ ...long, retire: GREEDY })).retirements).toMatchObject({
      announced: 2,
      recent: [{ keyId: id, versions: 2 }],
      protect: { uses: 2 },
    });
    await first.ruling.delete(change(), 'kept', run(false));
  });

  it('sums so many versions in one statement', () => {
    const keys = [3, 5, 1].map((versions, n) => ({ keyId: String(n), skipped: n, versions }));
    expect(statementsOf(keys, 4)).toEqual([
      [
        { keyId: '0', skipped: 0, versions: 3 },
        { keyId: '1', skipped: 1, versions: 1 },
      ],
      [{ keyId: '1', skipped: 2, versions: 4 }],
      [{ keyId: '2', skipped: 2, versions: 1 }],
    ]);
    expect(statementsOf([])).toEqual([]);
  });

  it('says of a pause what waits, and of its end what comes at once', async () => {
    const ids = await Promise.all([make(), make()]);
    await put('paced', { interval: 'P30D' })(run(false));
    await tickAll();
    stage.clock.now += 40 * DAY;
    const pause = (by: PolicyRun) =>
      first.ruling.pause(change(), { name: 'paced', reason: 'freeze' }, by);
    expect(await told(pause)).toMatchObject({
      keys: { governed: ids.length },
      moved: [],
      rotations: { atOnce: 0, held: 2 },
    });
    const all = await told((by) => first.ruling.pauseAll(change(), 'freeze', by));
    expect(all).toMatchObject({ rotations: { held: 2 } });
    await pause(run(false));
    const resume = await told((by) =>
      first.ruling.resume(change(), { name: 'paced', reason: 'thaw' }, by),
    );
    expect(resume).toMatchObject({ rotations: { atOnce: 2, held: 0 } });
    await first.ruling.delete(change(), 'paced', run(false));
  });

  it('looks at so many keys and says that there are more', async () => {
    for (let n = 0; n < 4; n += 1) await make();
    stage.clock.now += 400 * DAY;
    const previews = new PolicyEffectPreviews({
      scan: stage.store.rotationScan,
      schedule: stage.store.scheduler,
      policies: first.ruling,
      flush: () => Promise.resolve(),
      perMinute: 2,
      clock: () => new Date(stage.clock.now),
      mostKeys: 3,
    });
    const named = {
      name: 'all',
      selector: labels,
      priority: 0,
      policy: policy({ interval: 'P30D' }),
    };
    const preview = () =>
      previews.ofPolicies({
        namespace: 'default',
        before: rankPolicies([]),
        after: rankPolicies([named]),
        name: 'all',
      });
    const [effects, busy] = await Promise.allSettled([preview(), preview()]);
    expect(effects).toMatchObject({
      value: {
        keys: { examined: 3, complete: false, governed: 3 },
        rotations: { atOnce: 3, minutes: 2 },
      },
    });
    expect(busy).toMatchObject({ reason: { code: 'rate_limited' } });
  });

  it('finds the keys by the label that fewest have, and passes destroyed ones over', async () => {
    const many = { ...labels, rare: `r-${String(label)}` };
    for (let n = 0; n < 3; n += 1) await make();
    const [doomed] = [await make(many), await make(many)];
    await first.keyring.lifecycle.scheduleDestruction(
      first.grant('keys.schedule-destruction', doomed),
      { at: new Date(stage.clock.now + 60 * DAY), reason: 'its project ends' },
      aRun({ ifMatch: (await read(doomed)).key.revision }),
    );
    const effects = await told(put('rare', { interval: 'P30D' }, many));
    expect(effects.keys).toEqual({ examined: 1, complete: true, selected: 1, governed: 1 });
  });
});

describe('the dry run of the policy of a key', () => {
  const set = async (id: string, terms: Partial<PolicyTerms>, dryRun: boolean) => {
    let change: { effects?: unknown; uses?: unknown } = {};
    const given = { kind: 'set', terms: { ...TERMS, ...terms } } as const;
    await first.keyring.manage.changeRotation(first.grant('keys.set-rotation', id), given, {
      ...aRun(),
      dryRun,
      render: (prepared) => {
        change = prepared;
        return { status: 200, body: '' };
      },
    });
    return change;
  };

  it('says what rotates and closes, and who used what closes', async () => {
    const id = await make();
    await wrap(id);
    await rotate(id);
    const at = new Date(stage.clock.now);
    expect(await set(id, { retire: GREEDY }, true)).toMatchObject({
      effects: {
        rotates: null,
        holds: false,
        closes: [{ version: 1, at, announced: false }],
        nextAt: at,
      },
      uses: { users: [{ usage: 'protect', uses: 1 }] },
    });
    const noticed = new Date(stage.clock.now + 7 * DAY);
    expect(await set(id, { retire: GREEDY, notice: 'P7D' }, true)).toMatchObject({
      effects: { closes: [{ version: 1, at: noticed, announced: true }] },
    });
    expect(await set(id, { interval: 'P90D' }, true)).toMatchObject({
      effects: { rotates: null, closes: [] },
      uses: { users: [] },
    });
    stage.clock.now += 100 * DAY;
    expect(await set(id, { interval: 'P90D' }, true)).toMatchObject({
      effects: { rotates: { cause: 'interval', suite: 0x0301 } },
    });
    await set(id, { interval: 'P90D' }, false);
    expect(await set(id, { interval: 'P400D' }, true)).toMatchObject({
      effects: { rotates: null, holds: true },
    });
  });
});

describe('followers', () => {
  const events = () =>
    rowsAsOwner<{ type: string; key_name: string; key_id: string; audit_id: string; data: object }>(
      stage.database,
      `select type, key_name, key_id, audit_id, data from public.event
        where type like 'rotation%' order by epoch, n`,
    );

  it('are told of each change of a policy and of a pause, in its transaction, and of no value of a label', async () => {
    const before = (await events()).length;
    const selector = { customer: 'a-private-value' };
    await put('told', { interval: 'P30D' }, selector)(run(false));
    await told(
      put('told', { interval: 'P60D' }, selector),
      (await first.ruling.current('default')).revision,
    );
    const { revision } = await first.ruling.current('default');
    await put('told', { interval: 'P60D' }, selector)(run(false, revision));
    await put('told', { interval: 'P60D' }, selector)(run(false, revision + 1));
    const reason = 'freeze';
    await first.ruling.pause(change(), { name: 'told', reason }, run(false));
    await first.ruling.resume(change(), { name: 'told', reason: 'thaw' }, run(false));
    await first.ruling.pauseAll(change(), reason, run(false));
    await first.ruling.pauseAll(change(), 'again', run(false));
    await first.ruling.resumeAll(change(), 'thaw', run(false));
    await first.ruling.delete(change(), 'told', run(false));
    const found = (await events()).slice(before);
    expect(found.map(({ type, key_name }) => [type, key_name])).toEqual([
      ['rotation-policy.created', 'told'],
      ['rotation-policy.changed', 'told'],
      ['rotation-policy.paused', 'told'],
      ['rotation-policy.resumed', 'told'],
      ['rotations.paused', 'default'],
      ['rotations.resumed', 'default'],
      ['rotation-policy.deleted', 'told'],
    ]);
    expect(new Set(found.map(({ key_id }) => key_id)).size).toBe(2);
    expect(found[1]?.data).toMatchObject({
      changed: {
        from: { labelNames: ['customer'], policy: { interval: 'P30D' } },
        to: { policy: { interval: 'P60D' } },
      },
    });
    expect(found[2]?.data).toMatchObject({ reason });
    expect(JSON.stringify(found)).not.toContain('a-private-value');
    const entries = await rowsAsOwner<{ operation: string }>(
      stage.database,
      `select operation from public.entry where lane || '-' || n = any($1)`,
      [found.map(({ audit_id }) => audit_id)],
    );
    expect(new Set(entries.map(({ operation }) => operation))).toEqual(
      new Set(['rotation-policies.change']),
    );
  });
});
