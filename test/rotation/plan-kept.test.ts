/**
 * The plan beside what then happened, where it is more than intervals: times set in advance, announced
 * retirements, a paused namespace, keys that only their uses rotate, and upgrades that are refused. Its
 * clock jumps to whatever is due next, on a real database.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { findSuite } from '../../src/crypto/suites.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { PauseRun, PolicyRun } from '../../src/keyring/namespace-policies.ts';
import type { PolicyTerms } from '../../src/keyring/rotation-policy.ts';
import type { Scheduler } from '../../src/rotation/scheduler.ts';
import { RotationPlanning } from '../../src/rotation/planning.ts';
import type { RotationPlan } from '../../src/rotation/planning.ts';
import { aRun } from '../keyring/world.ts';
import { rowsAsOwner } from '../store/owner.ts';
import { DAY, openStage, TERMS } from './stage.ts';
import type { SchedulerChanges, Stage } from './stage.ts';

const START = Date.UTC(2026, 0, 1);
const DAYS = 100;
/** Of the upgrade that is refused. */
const REFUSED = findSuite('MLKEM1024-P384').number;
const REASON = 'not admitted here';

let stage: Stage;
const ids: Record<string, string> = {};
const at = (days: number) => new Date(START + days * DAY);
const own = async (name: string, terms: Partial<PolicyTerms>, suite = 'A256GCM') => {
  const { first } = stage;
  const id = await first.create({ suite });
  ids[name] = id;
  const change = { kind: 'set', terms: { ...TERMS, ...terms } } as const;
  await first.keyring.manage.changeRotation(first.grant('keys.set-rotation', id), change, aRun());
  return id;
};
const run = (): PolicyRun & PauseRun => ({ ...aRun(), render: () => ({ status: 200, body: '' }) });
const change = () => stage.first.grant('rotation-policies.change', null);

beforeAll(async () => {
  stage = await openStage(START);
  ({ scheduler } = stage.first.scheduler({ act: refusing }));
  const { first } = stage;
  const policy = {
    ...{ name: 'all', selector: {}, priority: 0 },
    terms: {
      ...TERMS,
      interval: 'P30D',
      retire: { keepVersions: 2, after: null },
      notice: 'P7D',
    },
  };
  await first.ruling.put(change(), policy, run());
  ids['ruled'] = await first.create({ suite: 'HS256' });
  await own('used', { maxUses: 1_000_000 });
  const waiting = await own('waiting', { interval: 'P60D' });
  const { lifecycle, manage } = first.keyring;
  await manage.rotate(first.grant('keys.rotate', waiting), { activateAt: at(30) }, aRun());
  const ending = await own('ending', {});
  await lifecycle.scheduleVersion(
    first.grant('versions.schedule', ending),
    { version: 1, deactivateAt: at(40) },
    aRun(),
  );
  await own(
    'upgraded',
    { interval: 'P45D', upgrade: { suite: REFUSED, notBefore: at(96) } },
    'MLKEM768-P256',
  );
}, 120_000);
afterAll(() => stage.stop(), 60_000);

/** What answers the route, for the days to come. */
const plan = (): Promise<RotationPlan> => {
  const { first, store, clock } = stage;
  const planning = new RotationPlanning({
    scan: store.rotationScan,
    policies: first.ruling,
    generation: first.keyring.generation,
    budgets: { perMinute: null, storageBytes: null, hsmMsPerDay: null },
    refusal: ({ number }) => (number === REFUSED ? REASON : null),
    clock: () => new Date(clock.now),
  });
  const page = { size: 100, after: null };
  const grant = first.grant('rotations.read', null);
  return planning.plan(grant, { days: DAYS, page }, new AbortController().signal);
};

const refusing: NonNullable<SchedulerChanges['act']> = (act) => (grant, action, by) =>
  action.kind === 'rotate' && action.suite === REFUSED
    ? Promise.reject(new TwofoldError('suite_unavailable_here', REASON))
    : act(grant, action, by);

/** Leads all the time. */
let scheduler: Scheduler;
/** From one moment at which something is due to the next, until the plan ends. */
async function live(from: number): Promise<readonly string[]> {
  const end = from + DAYS * DAY;
  for (;;) {
    while ((await scheduler.tick()).looks > 0);
    const [next] = await rowsAsOwner<{ at: Date | null }>(
      stage.database,
      'select min(next_at) as at from public.key_schedule',
    );
    const next_at = next?.at?.getTime() ?? end;
    if (next_at >= end) break;
    stage.clock.now = next_at;
  }
  stage.clock.now = end;
  const runs = await rowsAsOwner<{ action: string }>(
    stage.database,
    'select action from public.scheduled_run where done_at >= $1 and done_at < $2',
    [new Date(from), new Date(end)],
  );
  return runs.map(({ action }) => action.split('/')[0] ?? '');
}
const count = (actions: readonly string[], kind: string): number =>
  actions.filter((each) => each === kind).length;

describe('a plan', () => {
  it('is kept where versions wait, end, are retired after a notice or cannot be upgraded', async () => {
    const told = await plan();
    const actions = await live(START);
    // Thirty days each; sixty after the waiting version came; forty-five, without the upgrade.
    expect(told.total.rotations).toBe(3 + 1 + 2);
    expect(count(actions, 'rotate')).toBe(told.total.rotations);
    expect(told.retirements).toEqual({ count: 2, due: 0 });
    expect(count(actions, 'retire')).toBe(2);
    expect(told.byUseAlone).toBe(1);
    expect(told.ending).toEqual({ count: 1, first: at(40) });
    expect([count(actions, 'activate'), count(actions, 'deactivate')]).toEqual([1, 1]);
    expect(told.warnings).toEqual([
      { kind: 'upgrade', from: at(96), suite: REFUSED, keys: 1, detail: REASON },
    ]);
    expect(stage.failures.length).toBeGreaterThan(0);
  });

  it('is kept while the namespace is paused', async () => {
    await stage.first.ruling.pauseAll(change(), 'freeze', run());
    const told = await plan();
    expect(told).toMatchObject({
      paused: { reason: 'freeze' },
      total: { rotations: 0 },
      waiting: { paused: 4 },
      retirements: { count: 0, due: 0 },
      warnings: [],
    });
    expect(await live(stage.clock.now)).toEqual([]);
  });

  it('is kept when it is resumed, with what is late', async () => {
    const { first } = stage;
    const policy = first.grant('keys.set-rotation', ids['upgraded'] ?? '');
    await first.keyring.manage.changeRotation(policy, { kind: 'delete' }, aRun());
    await first.ruling.resumeAll(change(), 'thaw', run());
    const told = await plan();
    const actions = await live(stage.clock.now);
    expect(told.late.count).toBe(3);
    expect(told.total.rotations).toBeGreaterThan(8);
    expect(count(actions, 'rotate')).toBe(told.total.rotations);
    expect(told.retirements.due).toBe(0);
    expect(count(actions, 'retire')).toBe(told.retirements.count);
  });
});
