/** A rotation that was undone by hand stays undone, whatever made it, until somebody says otherwise. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { findSuite } from '../../src/crypto/suites.ts';
import type { PolicyChange } from '../../src/keyring/operations.ts';
import type { PolicyTerms } from '../../src/keyring/rotation-policy.ts';
import { RotationReading } from '../../src/rotation/reading.ts';
import { untilFresh } from '../../src/rotation/until-fresh.ts';
import { aRun, codeOf } from '../keyring/world.ts';
import { rowsAsOwner } from '../store/owner.ts';
import { DAY, openStage, TERMS } from './stage.ts';
import type { Actor, Stage } from './stage.ts';

let stage: Stage;
let first: Actor;
let second: Actor;
beforeAll(async () => {
  stage = await openStage();
  first = stage.first;
  second = await stage.another();
}, 60_000);
afterAll(() => stage.stop(), 60_000);

const asOwner = <T = unknown>(sql: string, values: unknown[] = []): Promise<T[]> =>
  rowsAsOwner<T>(stage.database, sql, values);
beforeEach(async () => {
  const { policies } = await first.ruling.list(first.grant('rotations.read', null));
  for (const { name } of policies) await first.ruling.delete(change(), name, policyRun());
  await asOwner('update public.key_schedule set next_at = null');
  await asOwner('update public.leadership set holder = null');
  stage.clock.now += 400 * DAY;
});

const change = (actor = first) => actor.grant('rotation-policies.change', null);
const policyRun = (ifMatch: number | null = null) => ({
  ...aRun(),
  ifMatch,
  render: () => ({ status: 200, body: '' }),
});
const keyOf = async (id: string) =>
  (await first.keyring.read.fresh(first.grant('keys.read', id))).key;
// What the other process has changed is learnt on the way.
const setRotation = (id: string, given: PolicyChange) =>
  untilFresh(() =>
    first.keyring.manage.changeRotation(first.grant('keys.set-rotation', id), given, aRun()),
  );
const setPolicy = (id: string, terms: Partial<PolicyTerms>) => {
  const { interval, maxUses, upgrade, retire, notice } = { ...TERMS, ...terms };
  return setRotation(id, { kind: 'set', terms: { interval, maxUses, upgrade, retire, notice } });
};
const resume = (id: string) => setRotation(id, { kind: 'resume', reason: 'it was mended' });
const undo = (id: string, version = 1, changes: object = {}) =>
  untilFresh(() =>
    first.keyring.manage.setPrimary(
      first.grant('keys.set-primary', id),
      { version, reason: 'a consumer broke', acceptQuantumVulnerable: false },
      { ...aRun(), ...changes },
    ),
  );
const rotate = (id: string) =>
  untilFresh(() => first.keyring.manage.rotate(first.grant('keys.rotate', id), {}, aRun()));
const putPolicy = (name: string, terms: Partial<PolicyTerms>, ifMatch: number | null = null) =>
  first.ruling.put(
    change(),
    { name, selector: {}, priority: 0, terms: { ...TERMS, ...terms } },
    policyRun(ifMatch),
  );
/** As by a process that was started anew: it knows nothing but the rows. */
const tick = async (actor = second) => {
  await asOwner('update public.leadership set holder = null');
  await asOwner('update public.key_schedule set next_at = $1', [new Date(0)]);
  return actor.scheduler().scheduler.tick();
};
const rotationOf = (id: string) =>
  new RotationReading({
    read: first.keyring.read,
    store: stage.store.scheduler,
    policies: first.ruling,
    clock: () => new Date(stage.clock.now),
  }).ofKey(first.grant('keys.read', id));
const usesAre = (id: string, version: number, used: number) =>
  asOwner(
    `insert into public.usage_counter (counter, used) values ($1, $2)
      on conflict (counter) do update set used = excluded.used`,
    [`${id}/${String(version)}`, used],
  );

const UPGRADE = { suite: findSuite('MLKEM1024-P384').number, notBefore: new Date(0) };

/** A key that its policy has rotated from version 1 to 2, for a cause that is there again at once. */
const CAUSES: Readonly<Record<string, () => Promise<string>>> = {
  uses: async () => {
    const id = await first.create({ suite: 'A256GCM' });
    await setPolicy(id, { maxUses: 100 });
    await usesAre(id, 1, 200);
    return id;
  },
  upgrade: async () => {
    const id = await first.create({ suite: 'MLKEM768-P256' });
    await setPolicy(id, { upgrade: UPGRADE });
    return id;
  },
  interval: async () => {
    const id = await first.create({ suite: 'A256GCM' });
    await setPolicy(id, { interval: 'P30D' });
    stage.clock.now += 31 * DAY;
    return id;
  },
};

describe.each(Object.keys(CAUSES))('a rotation by %s that was undone', (cause) => {
  const rotated = async () => {
    const id = (await CAUSES[cause]?.()) ?? '';
    await tick();
    expect((await keyOf(id)).primary).toBe(2);
    return id;
  };

  it('stays undone, also for another process and long after, and says so', async () => {
    const id = await rotated();
    const dry = await undo(id, 1, { dryRun: true });
    const held = { reason: 'a consumer broke', primary: 1, policy: null };
    expect(dry.change?.after.key.rotationHold).toMatchObject(held);
    expect((await keyOf(id)).rotationHold).toBeNull();
    await undo(id);
    for (const actor of [first, second]) {
      await tick(actor);
      stage.clock.now += 100 * DAY;
      await tick(actor);
    }
    expect(await keyOf(id)).toMatchObject({ primary: 1, latestVersion: 2, rotationHold: held });
    expect(await rotationOf(id)).toMatchObject({
      paused: { by: 'undo', reason: 'a consumer broke' },
      due: [],
      late: false,
    });
  });

  it('comes again once its policy is resumed by hand, and once it says something else', async () => {
    const [resumed, changed] = [await rotated(), await rotated()];
    await undo(resumed);
    await undo(changed);
    stage.clock.now += 40 * DAY;
    await resume(resumed);
    expect((await keyOf(resumed)).rotationHold).toBeNull();
    const { rotation } = await keyOf(changed);
    await setPolicy(changed, { ...rotation, notice: 'P1D' });
    expect((await rotationOf(changed)).paused).toBeNull();
    await tick();
    for (const id of [resumed, changed]) {
      const { primary, latestVersion } = await keyOf(id);
      expect(primary).toBe(latestVersion);
    }
  });
});

describe('the hold of an undone rotation', () => {
  it('ends with the next primary: one that is made by hand, or the one that was taken back', async () => {
    const id = await first.create({ suite: 'A256GCM' });
    await setPolicy(id, { interval: 'P30D' });
    await rotate(id);
    await undo(id);
    await rotate(id);
    expect(await keyOf(id)).toMatchObject({ primary: 3, rotationHold: null });
    await undo(id, 2);
    await undo(id, 3);
    expect(await keyOf(id)).toMatchObject({ primary: 3, rotationHold: null });
    stage.clock.now += 31 * DAY;
    await tick();
    expect((await keyOf(id)).primary).toBe(4);
  });

  it('is of a policy of the namespace too, at its revision, and no other policy ends it', async () => {
    const id = await first.create({ suite: 'A256GCM' });
    await putPolicy('all', { interval: 'P30D' });
    await rotate(id);
    await undo(id);
    const { rotationHold } = await keyOf(id);
    expect(rotationHold).toMatchObject({ policy: 'all', primary: 1 });
    await putPolicy('zzz', { interval: 'P40D' });
    await first.ruling.pauseAll(change(), 'a freeze', policyRun());
    await first.ruling.resumeAll(change(), 'over', policyRun());
    stage.clock.now += 60 * DAY;
    await tick();
    expect((await keyOf(id)).primary).toBe(1);
    await putPolicy('all', { interval: 'P20D' }, rotationHold?.policyRevision);
    await tick();
    expect(await keyOf(id)).toMatchObject({ primary: 3, rotationHold: null });
  });

  it('of a policy of the namespace is ended by hand for one key alone', async () => {
    const ids = [
      await first.create({ suite: 'A256GCM' }),
      await first.create({ suite: 'A256GCM' }),
    ];
    await putPolicy('all', { interval: 'P30D' });
    for (const id of ids) await rotate(id);
    for (const id of ids) await undo(id);
    stage.clock.now += 31 * DAY;
    const [resumed = '', held = ''] = ids;
    await resume(resumed);
    // Nothing is left to resume.
    expect(await codeOf(resume(resumed))).toBe('not_found');
    await tick();
    expect([(await keyOf(resumed)).primary, (await keyOf(held)).primary]).toEqual([3, 1]);
  });

  it('never stands on policies that changed while it was made', async () => {
    const id = await first.create({ suite: 'A256GCM' });
    await putPolicy('all', { interval: 'P30D' });
    await rotate(id);
    const current = first.ruling.current.bind(first.ruling);
    first.ruling.current = async (namespace) => {
      const set = await current(namespace);
      await putPolicy('more', { interval: 'P90D' });
      return set;
    };
    try {
      expect(await codeOf(undo(id))).toBe('conflict');
    } finally {
      first.ruling.current = current;
    }
    expect(await keyOf(id)).toMatchObject({ primary: 2, rotationHold: null });
  });

  it('does not hold the limit of AES-GCM', async () => {
    const id = await first.create({ suite: 'A256GCM' });
    await setPolicy(id, { interval: 'P30D' });
    await rotate(id);
    await undo(id);
    await usesAre(id, 1, 2 ** 31);
    await tick();
    expect(await keyOf(id)).toMatchObject({ primary: 3, rotationHold: null });
  });

  it('is not made where no policy is in effect, nor for a version that took the place of a fallen one', async () => {
    const id = await first.create({ suite: 'A256GCM' });
    await rotate(id);
    await undo(id);
    expect(await keyOf(id)).toMatchObject({ primary: 1, rotationHold: null });
    await setPolicy(id, { interval: 'P30D' });
    await undo(id, 2);
    const fallen = { version: 2, reason: 'leaked' };
    const grant = first.grant('versions.compromise', id);
    await first.keyring.lifecycle.compromiseVersion(grant, fallen, aRun());
    await undo(id);
    expect(await keyOf(id)).toMatchObject({ primary: 1, rotationHold: null });
  });
});

/** What may come between an undo and a rotation, and whether it lets the policy act again. */
const STEPS = {
  undo: false,
  tick: false,
  day: false,
  resume: true,
  policy: true,
  rotate: true,
} as const;
type Step = keyof typeof STEPS;

it('whatever happens, no look takes a primary back that was chosen by hand since', async () => {
  const steps = fc.array(fc.constantFrom(...(Object.keys(STEPS) as Step[])), {
    minLength: 4,
    maxLength: 12,
  });
  let notices = 0;
  const run = async (id: string, step: Step) => {
    const { primary, latestVersion, rotation } = await keyOf(id);
    switch (step) {
      case 'undo':
        // Any older one, of whichever suite.
        return (primary ?? 1) > 1 ? undo(id, (primary ?? 2) - 1) : null;
      case 'tick':
        return tick(latestVersion % 2 === 0 ? first : second);
      case 'day':
        stage.clock.now += 40 * DAY;
        return null;
      case 'resume':
        return resume(id);
      case 'policy':
        notices += 1;
        return setPolicy(id, { ...rotation, notice: `P${String(1 + (notices % 20))}D` });
      case 'rotate':
        return rotate(id);
    }
  };
  await fc.assert(
    fc.asyncProperty(steps, async (sequence) => {
      const id = await first.create({ suite: 'MLKEM768-P256' });
      await setPolicy(id, { upgrade: UPGRADE, interval: 'P30D' });
      let chosen: number | null = null;
      for (const step of sequence) {
        const before = (await keyOf(id)).primary;
        await run(id, step);
        const after = (await keyOf(id)).primary;
        if (step === 'undo' && after !== before) chosen = after;
        else if (STEPS[step]) chosen = null;
        else if (chosen !== null) expect(after).toBe(chosen);
      }
      // Once it is resumed, the policy acts: nothing stays held for ever.
      await resume(id);
      stage.clock.now += 40 * DAY;
      const { latestVersion } = await keyOf(id);
      await tick();
      expect((await keyOf(id)).primary).toBe(latestVersion + 1);
    }),
    { numRuns: Number(process.env['UNDO_RUNS'] ?? 4) },
  );
});
