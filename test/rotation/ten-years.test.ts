/**
 * Ten years of a set of policies, in seconds: the clock jumps to whatever is due next, on a real
 * database. Every transition is compared with what was set, and the forecast of the first three years
 * with what then happened.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { findSuite, findSuiteByNumber } from '../../src/crypto/suites.ts';
import type { KeyView } from '../../src/keyring/operations.ts';
import { newPolicy } from '../../src/keyring/rotation-policy.ts';
import type { PolicyTerms } from '../../src/keyring/rotation-policy.ts';
import { jitterMs } from '../../src/rotation/jitter.ts';
import { RotationPlanning } from '../../src/rotation/planning.ts';
import type { RotationPlan } from '../../src/rotation/planning.ts';
import { aRun } from '../keyring/world.ts';
import { withClient } from '../store/owner.ts';
import { DAY, openStage, TERMS } from './stage.ts';
import type { Stage } from './stage.ts';

const START = Date.UTC(2026, 0, 1);
const END = Date.UTC(2036, 0, 1);
const FORECAST_DAYS = 1_095;
const numberOf = (id: string): number => findSuite(id).number;

interface Run {
  readonly key_id: string;
  readonly action: string;
  readonly due_at: Date;
  readonly done_at: Date;
  readonly version: number | null;
}

let stage: Stage;
let told: RotationPlan;
let runs: readonly Run[];
let events: Readonly<Record<string, number>>;
/** Ids by what the key is there for. */
const ids: Record<string, string> = {};

const asOwner = <T>(sql: string, values: unknown[] = []): Promise<T[]> =>
  withClient(
    stage.database.ownerUrl,
    async (client) => (await client.query(sql, values)).rows as T[],
  );
const read = (name: string): Promise<KeyView> =>
  stage.first.keyring.read.fresh(stage.first.grant('keys.read', ids[name] ?? ''));
const of = (name: string, action: string): readonly Run[] =>
  runs.filter((run) => run.key_id === ids[name] && run.action.startsWith(action));

const make = async (name: string, suite: string, terms: Partial<PolicyTerms> | null) => {
  const { first } = stage;
  const id = await first.create({ suite });
  ids[name] = id;
  if (terms === null) return id;
  const change = { kind: 'set', terms: { ...TERMS, ...terms } } as const;
  await first.keyring.manage.changeRotation(first.grant('keys.set-rotation', id), change, aRun());
  return id;
};

async function setUp(): Promise<void> {
  const { first } = stage;
  const policy = newPolicy({ ...TERMS, interval: 'P180D' });
  stage.policies.push({ name: 'all', selector: {}, priority: 0, policy });
  await make('kept', 'A256GCM', {
    interval: 'P90D',
    notice: 'P14D',
    retire: { keepVersions: 3, after: null },
  });
  await make('upgraded', 'DHKEM-P256', {
    interval: 'P1Y',
    upgrade: { suite: numberOf('MLKEM768-P256'), notBefore: new Date(START + 500 * DAY) },
  });
  await make('selected', 'HS256', null);
  await make('aged', 'HS384', { interval: 'P1Y', retire: { keepVersions: null, after: 'P2Y' } });
  const { lifecycle, manage } = first.keyring;
  const doomed = await make('doomed', 'A256GCM', { interval: 'P1Y' });
  await lifecycle.scheduleDestruction(
    first.grant('keys.schedule-destruction', doomed),
    { at: new Date(START + 1_500 * DAY), reason: 'its project ends' },
    aRun({ ifMatch: (await read('doomed')).key.revision }),
  );
  const timed = await make('timed', 'HS512', {});
  const activateAt = new Date(START + 100 * DAY);
  await manage.rotate(first.grant('keys.rotate', timed), { activateAt }, aRun());
  await lifecycle.scheduleVersion(
    first.grant('versions.schedule', timed),
    { version: 1, deactivateAt: new Date(START + 200 * DAY) },
    aRun(),
  );
}

/** From one moment at which something is due to the next. */
async function live(): Promise<void> {
  const { scheduler } = stage.first.scheduler();
  for (;;) {
    while ((await scheduler.tick()).looks > 0);
    const [next] = await asOwner<{ at: Date | null }>(
      'select min(next_at) as at from public.key_schedule',
    );
    const at = next?.at?.getTime() ?? END;
    if (at >= END) return;
    stage.clock.now = at;
  }
}

beforeAll(async () => {
  stage = await openStage(START);
  await setUp();
  const { first, store, policies } = stage;
  // What answers the route.
  const planning = new RotationPlanning({
    scan: store.rotationScan,
    policies: { of: () => Promise.resolve({ policies, paused: null }) },
    generation: first.keyring.generation,
    budgets: { perMinute: null, storageBytes: null, hsmMsPerDay: null },
    clock: () => new Date(stage.clock.now),
  });
  told = await planning.plan(
    first.grant('rotations.read', null),
    { days: FORECAST_DAYS, page: { size: 100, after: null } },
    new AbortController().signal,
  );
  await live();
  runs = await asOwner<Run>('select * from public.scheduled_run order by done_at, action');
  const types = await asOwner<{ type: string; n: string }>(
    'select type, count(*) as n from public.event group by type',
  );
  events = Object.fromEntries(types.map(({ type, n }) => [type, Number(n)]));
}, 240_000);
afterAll(() => stage.stop(), 60_000);

describe('ten years', () => {
  it('do everything when it is due, and fail at nothing', () => {
    expect(stage.failures).toEqual([]);
    expect(runs.length).toBeGreaterThan(100);
    for (const { action, due_at, done_at } of runs) {
      // Retirements by number are due since the version that pushed them out became active.
      expect([action, done_at.getTime() - due_at.getTime()]).toEqual([action, 0]);
    }
  });

  it.each([
    ['kept', 90],
    ['selected', 180],
  ])('rotate the key %s every %i days, earlier by its jitter alone', async (name, days) => {
    const interval = days * DAY - jitterMs(ids[name] ?? '', days * DAY);
    const rotations = of(name, 'rotate/');
    expect(rotations.length).toBe(Math.floor((END - 1 - START) / interval));
    const times = [START, ...rotations.map(({ done_at }) => done_at.getTime())];
    for (let at = 1; at < times.length; at += 1) {
      expect((times[at] ?? 0) - (times[at - 1] ?? 0)).toBe(interval);
    }
    expect((await read(name)).key.latestVersion).toBe(rotations.length + 1);
  });

  it('keep three versions of the key that keeps three, and announce each of its rotations once', async () => {
    const { key, versions } = await read('kept');
    const done = of('kept', 'rotate/');
    const rotations = done.length;
    // What the last rotation pushes out is closed once its notice has passed, which may be after the ten years.
    const closed = (done.at(-1)?.done_at.getTime() ?? 0) + 14 * DAY < END;
    const kept = closed ? 3 : 4;
    expect(key.minUsableVersion).toBe(key.latestVersion - kept + 1);
    expect(versions.slice(-kept).map(({ state }) => state)).toEqual(
      Array.from({ length: kept }, () => 'active'),
    );
    expect(new Set(versions.slice(0, -kept).map(({ state }) => state))).toEqual(
      new Set(['deactivated']),
    );
    const notices = of('kept', 'notice/rotation/').length;
    // The next rotation may be announced already.
    expect([rotations, rotations + 1]).toContain(notices);
  });

  it('take a classical key to a hybrid suite at its date, and never back', async () => {
    const { versions } = await read('upgraded');
    const suites = versions.map(({ suite }) => findSuiteByNumber(suite).id);
    const first = suites.indexOf('MLKEM768-P256');
    expect(new Set(suites.slice(0, first))).toEqual(new Set(['DHKEM-P256']));
    expect(new Set(suites.slice(first))).toEqual(new Set(['MLKEM768-P256']));
    expect(versions[first]?.createdAt).toEqual(new Date(START + 500 * DAY));
  });

  it('retire versions two years after they were superseded', async () => {
    const retired = of('aged', 'retire/');
    expect(retired.length).toBeGreaterThan(6);
    const { versions } = await read('aged');
    for (const { version, done_at } of retired) {
      const successor = versions[version ?? 0];
      const since = successor !== undefined && 'activatedAt' in successor && successor.activatedAt;
      const due = new Date(since || 0);
      due.setUTCFullYear(due.getUTCFullYear() + 2);
      expect(done_at).toEqual(due);
    }
  });

  it('destroy a key on its day, which rotates no more while it waits', async () => {
    const { key, versions } = await read('doomed');
    expect(key.destroyedAt).toEqual(new Date(START + 1_500 * DAY));
    expect(versions.map(({ state }) => state)).toEqual(['destroyed']);
    expect(of('doomed', '').map(({ action }) => action)).toEqual(['destroy-key']);
  });

  it('activate and deactivate versions at times set in advance', async () => {
    const { key, versions } = await read('timed');
    expect(versions[1]).toMatchObject({ activatedAt: new Date(START + 100 * DAY) });
    expect(versions[0]).toMatchObject({
      state: 'deactivated',
      deactivatedAt: new Date(START + 200 * DAY),
    });
    expect(key.primary).toBe(2);
  });

  it('tell followers of each, once', () => {
    const done = (action: string): number =>
      runs.filter((run) => run.action.startsWith(action)).length;
    const counts = (type: string): number =>
      Object.entries(events).find(([name]) => name.endsWith(type))?.[1] ?? 0;
    // The version that was made in advance, by hand, is a rotation too.
    expect(counts('key.rotated')).toBe(done('rotate/') + 1);
    expect(counts('key.rotation-due')).toBe(done('notice/rotation/'));
    expect(counts('version.retirement-due')).toBe(done('notice/retirement/'));
    expect(counts('version.retired')).toBe(done('retire/'));
    expect(counts('version.activated')).toBe(done('activate/'));
    expect(counts('version.deactivated')).toBe(done('deactivate/'));
    expect(counts('key.destroyed')).toBe(done('destroy-key'));
  });

  it('begin as they were forecast', async () => {
    const until = START + FORECAST_DAYS * DAY;
    const made = new Map<number, number>();
    for (const name of Object.keys(ids)) {
      const { versions } = await read(name);
      for (const { version, done_at } of of(name, 'rotate/')) {
        if (done_at.getTime() >= until) continue;
        const suite = versions[(version ?? 0) - 1]?.suite ?? 0;
        made.set(suite, (made.get(suite) ?? 0) + 1);
      }
    }
    const forecasted = told.suites.map(({ suite, rotations }) => [suite, rotations]);
    expect(new Map(forecasted as [number, number][])).toEqual(made);
    expect(told.total.rotations).toBeGreaterThan(20);
    const retired = runs.filter(
      ({ action, done_at }) => action.startsWith('retire/') && done_at.getTime() < until,
    );
    expect(told.retirements).toEqual({ count: retired.length, due: 0 });
    expect(retired.length).toBeGreaterThan(5);
    // Every suite was measured, by what was made of it or by a trial.
    expect(told.suites.filter(({ measured }) => measured === null)).toEqual([]);
  });
});
