import { findSuite } from '../../src/crypto/suites.ts';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { lengthOf, storedDuration } from '../../src/keyring/durations.ts';
import { paused } from '../../src/keyring/rotation-policy.ts';
import type { RotationPolicy } from '../../src/keyring/rotation-policy.ts';
import { dueActions, nextDue } from '../../src/rotation/due.ts';
import { Forecaster } from '../../src/rotation/forecast.ts';
import type { Forecast, ForecastOptions, SuiteCosts } from '../../src/rotation/forecast.ts';
import type { LightKey } from '../../src/rotation/ports.ts';
import { versionBytes } from '../../src/rotation/version-size.ts';
import { findSuiteByNumber } from '../../src/crypto/suites.ts';
import { anyPolicy, policy } from '../keyring/policies.ts';
import { DAY, START, at, key, suite, version, withNotice, withVersion } from './keys.ts';
import type { ScheduledKey } from '../../src/rotation/scheduled-key.ts';

const numberOf = (id: string): number => findSuite(id).number;

const HYBRID = suite('MLKEM768-P256');
const OPTIONS: ForecastOptions = {
  now: at(0),
  days: 100,
  policies: [],
  paused: null,
  budgets: { perMinute: null, storageBytes: null, hsmMsPerDay: null },
  lateAfterMs: 300_000,
  page: { size: 50, after: null },
};

const HOLD = { at: at(0), reason: 'broke', primary: 1, policy: null, policyRevision: 1 };

let counter = 0;
const light = (over: Partial<LightKey> = {}, primary = {}): LightKey => {
  counter += 1;
  return {
    id: `00000000-0000-4000-8000-${String(counter).padStart(12, '0')}`,
    name: `key-${String(counter)}`,
    purpose: 'wrap',
    labels: {},
    rotation: null,
    rotationHold: null,
    suspended: false,
    primary: { suite: HYBRID, activatedAt: START, uses: 0, deactivateAt: null, ...primary },
    next: null,
    superseded: [],
    ...over,
  };
};
const forecastOf = (
  keys: readonly LightKey[],
  over: Partial<ForecastOptions> = {},
  costs: SuiteCosts = new Map(),
): Forecast => {
  const forecaster = new Forecaster({ ...OPTIONS, ...over });
  for (const each of keys) forecaster.add(each);
  return forecaster.result(costs);
};
const every = (interval: string) => policy({ interval });

/** By the plan itself, rotation by rotation: day and suite of each. */
function byThePlan(of: LightKey, rules: RotationPolicy | null, days: number): string[] {
  const found: string[] = [];
  let [suiteNow, since, uses, now] = [
    of.primary?.suite ?? 0,
    of.primary?.activatedAt ?? 0,
    of.primary?.uses ?? 0,
    START,
  ];
  for (;;) {
    const primary = version(1, {
      suite: suiteNow,
      activatedAt: new Date(since),
      supersededAt: null,
    });
    const whole = key(1, { id: of.id, uses, versions: [primary] });
    const next = nextDue(whole, rules, new Date(now))?.getTime() ?? Infinity;
    now = Math.max(next, now);
    if (now >= START + days * DAY) return found;
    const [action] = dueActions(whole, rules, new Date(now));
    if (action?.kind !== 'rotate') throw new Error('only rotations are expected');
    found.push(`${String(Math.floor((now - START) / DAY))}/${String(action.suite)}`);
    [suiteNow, since, uses] = [action.suite, now, 0];
  }
}

/** By the plan itself, action by action: versions retired at once, and over the days. */
function retiredByThePlan(of: ScheduledKey, rules: RotationPolicy, start: Date, days: number) {
  let [whole, now, count, due] = [of, start, 0, 0];
  for (;;) {
    const next = nextDue(whole, rules, now)?.getTime() ?? Infinity;
    if (next >= start.getTime() + days * DAY) return { count, due };
    now = new Date(Math.max(next, now.getTime()));
    const [action] = dueActions(whole, rules, now);
    const { versions } = whole;
    if (action?.kind === 'retire') {
      count += 1;
      if (now <= start) due += 1;
      const { version: number } = action;
      whole = { ...withVersion(whole, number, { state: 'deactivated' }) };
      whole = { ...whole, minUsableVersion: number + 1 };
    } else if (action?.kind === 'rotate') {
      const made = version(versions.length + 1, { activatedAt: now, supersededAt: null });
      const older = withVersion(whole, versions.length, { supersededAt: now }).versions;
      whole = { ...whole, primary: made.version, versions: [...older, made] };
    } else if (action?.kind === 'notice') {
      whole = withNotice(whole, action, now);
    } else throw new Error('only rotations, retirements and notices are expected');
  }
}

const counted = (forecast: Forecast): string[] =>
  forecast.days.flatMap(({ suites }, day) =>
    suites.flatMap((each) =>
      Array.from({ length: each.rotations }, () => `${String(day)}/${String(each.suite)}`),
    ),
  );

describe('a forecast', () => {
  it('counts by day and suite what the plan would run', () => {
    const rules = anyPolicy
      // What comes more often than once a day, its jitter counted, is counted as a rate.
      .filter(({ interval }) => interval === null || lengthOf(storedDuration(interval)) >= 2 * DAY)
      .map((each) => ({ ...each, retire: null, notice: null }));
    const activated = fc.integer({ min: START - 4_000 * DAY, max: START });
    const uses = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 2 ** 33 }));
    const of = fc.constantFrom(HYBRID, suite('A256GCM'), suite('DHKEM-P256'));
    fc.assert(
      fc.property(rules, activated, uses, of, (ofKey, activatedAt, used, number) => {
        const each = light({ rotation: ofKey }, { activatedAt, uses: used, suite: number });
        const forecast = forecastOf([each], { days: 500 });
        // A day has its suites in no order of time.
        expect(counted(forecast).toSorted()).toEqual(byThePlan(each, ofKey, 500).toSorted());
      }),
      { numRuns: 300 },
    );
  });

  it('counts an interval under a day as a rate', () => {
    const { total, days } = forecastOf([light({ rotation: every('PT2H') })]);
    // 1,200 of two hours, and up to 5 % more since each is a little early.
    expect(total.rotations).toBeGreaterThanOrEqual(1_199);
    expect(total.rotations).toBeLessThanOrEqual(1_264);
    expect(Math.abs((days[50]?.rotations ?? 0) - total.rotations / 100)).toBeLessThanOrEqual(1);
  });

  it('adds up bytes and time by suite, and names what was not measured', () => {
    const keys = [
      light({ rotation: every('P60D') }),
      light({ rotation: every('P60D'), purpose: 'sign' }, { suite: suite('ML-DSA-65') }),
    ];
    const costs = new Map([[HYBRID, { hsmMs: 2, cpuMs: 0.5 }]]);
    const { suites, total, unmeasured } = forecastOf(keys, {}, costs);
    const bytes = versionBytes(findSuiteByNumber(HYBRID));
    expect(suites[0]).toEqual({ suite: HYBRID, rotations: 1, bytes, hsmMs: 2, cpuMs: 0.5 });
    expect(total).toMatchObject({ rotations: 2, hsmMs: 2, cpuMs: 0.5 });
    expect(total.bytes).toBe(bytes + versionBytes(findSuiteByNumber(suite('ML-DSA-65'))));
    expect(unmeasured).toEqual([suite('ML-DSA-65')]);
  });

  it('says what waits and what is late', () => {
    const stopped = paused(every('P30D'), { at: at(0), reason: 'freeze' });
    const forecast = forecastOf([
      light(),
      light({ rotation: policy() }),
      light({ rotation: stopped }),
      light({ rotation: every('P30D'), suspended: true }),
      light({ rotation: every('P30D'), rotationHold: HOLD }),
      // Of another revision of the policy: that one may act.
      light({ rotation: policy(), rotationHold: { ...HOLD, policyRevision: 7 } }),
      light({ rotation: every('P30D'), primary: null }),
      light({ rotation: every('P30D') }, { activatedAt: START - 90 * DAY }),
      light({ rotation: policy({ maxUses: 5 }) }, { uses: 5, activatedAt: START - 90 * DAY }),
      light(
        { rotation: policy({ upgrade: { suite: numberOf('MLKEM1024-P384'), notBefore: at(-9) } }) },
        { activatedAt: START - DAY * 99 },
      ),
    ]);
    expect(forecast).toMatchObject({
      keys: 10,
      unplanned: 3,
      byUseAlone: 0,
      waiting: { paused: 1, held: 1, suspended: 1, withoutPrimary: 1 },
      late: { count: 2, byUse: 1 },
    });
    const oldest = forecast.late.oldest?.getTime() ?? 0;
    expect(oldest).toBeGreaterThanOrEqual(at(-61.5).getTime());
    expect(oldest).toBeLessThanOrEqual(at(-60).getTime());
  });

  it('expects nothing of policies while their namespace is paused', () => {
    const policies = [{ name: 'all', selector: {}, priority: 0, policy: every('P50D') }];
    const keys = [
      light(),
      light({ rotation: policy({ interval: 'P30D', retire: { keepVersions: 1, after: null } }) }),
      light({}, { suite: suite('A256GCM'), uses: 2 ** 32 }),
    ];
    const paused = { at: at(0), reason: 'freeze' };
    expect(forecastOf(keys, { policies, paused })).toMatchObject({
      total: { rotations: 1 },
      waiting: { paused: 2 },
      late: { byUse: 1 },
      retirements: { count: 0, due: 0 },
    });
  });

  it('moves the primary at the times that were set in advance', () => {
    const interval = { rotation: every('P50D') };
    const next = { suite: suite('MLKEM1024-P384'), activateAt: at(10).getTime() };
    const ends = { deactivateAt: at(20).getTime() };
    const of = (...[over, primary]: Parameters<typeof light>) => {
      const told = forecastOf([light({ ...interval, ...over }, primary)], { days: 365 });
      const { dueAt, from } = told.next.items[0] ?? {};
      const day = dueAt === undefined ? null : Math.round((dueAt - START) / DAY);
      return { day, from, ending: told.ending, unplanned: told.unplanned, told };
    };
    const none = { count: 0, first: null };
    const fifty = expect.closeTo(50, -1) as unknown;
    const sixty = expect.closeTo(60, -1) as unknown;
    expect(of({})).toMatchObject({ day: fifty, from: HYBRID, ending: none });
    // Fifty days after the waiting version leads the key; the old primary's end is no matter then.
    expect(of({ next }, ends)).toMatchObject({ day: sixty, from: next.suite, ending: none });
    expect(of({ next, primary: null })).toMatchObject({ day: sixty, ending: none });
    // The primary ends: nothing rotates the key.
    expect(of({}, ends)).toMatchObject({
      day: null,
      ending: { count: 1, first: at(20) },
      unplanned: 1,
      told: { total: { rotations: 0 } },
    });
    // It ends before the waiting version comes: the key protects nothing in between.
    const soon = { deactivateAt: at(5).getTime() };
    expect(of({ next }, soon)).toMatchObject({ day: sixty, ending: { count: 1, first: at(5) } });
    // It is rotated before either.
    const late = { ...next, activateAt: at(80).getTime() };
    expect(of({ next: late }, { deactivateAt: at(90).getTime() })).toMatchObject({
      day: fifty,
      from: HYBRID,
      ending: none,
    });
    // A policy that rotates nothing keeps no primary alive.
    expect(of({ rotation: null }, ends)).toMatchObject({ ending: { count: 1 }, unplanned: 1 });
  });

  it('tells keys that only their uses rotate from those that nothing rotates', () => {
    const byUse = light({ rotation: policy({ maxUses: 5 }) }, { uses: 4 });
    expect(forecastOf([byUse, light()])).toMatchObject({ byUseAlone: 1, unplanned: 1 });
  });

  it('counts the versions that the plan would retire', () => {
    const days = (least: number) => fc.integer({ min: least, max: 90 }).map((n) => `P${n}D`);
    const retire = fc
      .record({
        keepVersions: fc.option(fc.integer({ min: 1, max: 5 })),
        after: fc.option(days(1)),
      })
      .filter(({ keepVersions, after }) => keepVersions !== null || after !== null);
    const rules = fc
      .record({
        interval: fc.option(days(20)),
        retire,
        notice: fc.option(fc.constantFrom('P1D', 'P9D')),
      })
      .map((terms) => policy(terms));
    fc.assert(
      fc.property(rules, fc.integer({ min: 1, max: 6 }), (ofKey, count) => {
        const whole = key(count);
        const superseded = whole.versions.flatMap((each) => each.supersededAt?.getTime() ?? []);
        const each = light(
          { id: whole.id, rotation: ofKey, superseded },
          { activatedAt: at(count).getTime() },
        );
        const { retirements } = forecastOf([each], { now: at(count + 3), days: 200 });
        expect(retirements).toEqual(retiredByThePlan(whole, ofKey, at(count + 3), 200));
      }),
      { numRuns: 200 },
    );
  });

  it('takes the policy that selects the key', () => {
    const policies = [{ name: 'all', selector: {}, priority: 0, policy: every('P50D') }];
    expect(forecastOf([light(), light({ rotation: policy() })], { policies })).toMatchObject({
      unplanned: 1,
      total: { rotations: 2 },
    });
  });

  it('warns where a budget is broken', () => {
    const keys = Array.from({ length: 100 }, () =>
      light({ rotation: every('P90D') }, { activatedAt: START - 900 * DAY }),
    );
    const budgets = { perMinute: 10, storageBytes: 1_000, hsmMsPerDay: 99 };
    const costs = new Map([[HYBRID, { hsmMs: 1, cpuMs: 1 }]]);
    const { peakMinute, warnings } = forecastOf(keys, { budgets, days: 30 }, costs);
    expect(peakMinute).toEqual({ at: at(0), rotations: 100 });
    const bytes = 100 * versionBytes(findSuiteByNumber(HYBRID));
    expect(warnings).toEqual([
      { kind: 'per-minute', from: at(0), lateMinutes: 9, worstAt: at(0) },
      { kind: 'storage', from: at(0), bytes },
      { kind: 'hsm-time', from: at(0), hsmMs: 100 },
    ]);
    const enough = { perMinute: 100, storageBytes: bytes, hsmMsPerDay: 100 };
    expect(forecastOf(keys, { budgets: enough, days: 30 }, costs).warnings).toEqual([]);
  });

  it('warns of keys whose last rotation is dated later than now', () => {
    const hour = 3_600_000;
    const dated = (ms: number, rotation: RotationPolicy | null = every('P90D')) =>
      light({ rotation }, { activatedAt: START + ms });
    const { warnings } = forecastOf([
      dated(900 * DAY),
      dated(hour + 1),
      dated(hour),
      dated(DAY, null),
      dated(DAY, policy({ maxUses: 5 })),
      dated(DAY, paused(every('P90D'), { at: at(0), reason: 'freeze' })),
    ]);
    const from = new Date(START + hour + 1);
    expect(warnings).toEqual([{ kind: 'clock', from, worstAt: at(900), keys: 2 }]);
  });

  it('warns of suites that cannot be made, and rotates without upgrades to them', () => {
    const [to, later] = [numberOf('MLKEM1024-P384'), numberOf('MLKEM768-X25519')];
    const upgrade = (toSuite: number, day: number) => ({
      rotation: policy({ interval: 'P60D', upgrade: { suite: toSuite, notBefore: at(day) } }),
    });
    const refused = upgrade(to, 30);
    const keys = [
      light(refused),
      light(refused),
      // It has the suite already, and cannot have it again from the fiftieth day on.
      light(refused, { suite: to }),
      light(upgrade(later, 10)),
      light({ rotation: paused(refused.rotation, { at: at(0), reason: 'freeze' }) }),
    ];
    const refusal = (number: number, when: Date) =>
      number === to && when >= at(20) ? 'not admitted' : null;
    const { warnings, total, suites } = forecastOf(keys, { refusal });
    const days = warnings.find(({ kind }) => kind === 'suite');
    expect(warnings).toEqual([
      { kind: 'upgrade', from: at(30), suite: to, keys: 2, detail: 'not admitted' },
      { kind: 'suite', from: days?.from, suite: to, rotations: 1, detail: 'not admitted' },
    ]);
    expect(days?.from.getTime()).toBeGreaterThanOrEqual(at(56).getTime());
    expect(suites.map(({ suite: number, rotations }) => [number, rotations]).toSorted()).toEqual(
      [
        [HYBRID, 2],
        [to, 1],
        [later, 2],
      ].toSorted(),
    );
    expect(total.rotations).toBe(5);
  });

  it('gives the next rotations in pages, each key once', () => {
    const keys = Array.from({ length: 250 }, (_, index) =>
      light({ rotation: every('P90D') }, { activatedAt: START - (index % 7) * DAY }),
    );
    const found: string[] = [];
    let after: ForecastOptions['page']['after'] = null;
    do {
      const { next } = forecastOf(keys, { page: { size: 60, after } });
      expect(next.items.length).toBeLessThanOrEqual(60);
      found.push(...next.items.map(({ dueAt, keyId }) => `${String(dueAt)} ${keyId}`));
      after = next.cursor;
    } while (after !== null);
    expect(found).toHaveLength(250);
    expect(new Set(found).size).toBe(250);
    expect(found).toEqual(found.toSorted());
  });

  it('names of each key the rotation that the plan does', () => {
    const each = light({ rotation: policy({ interval: 'P30D' }, 9) });
    const whole = key(1, {
      id: each.id,
      versions: [version(1, { activatedAt: at(0), supersededAt: null })],
    });
    const [action] = dueActions(whole, each.rotation, at(90));
    const [item] = forecastOf([each]).next.items;
    expect(action).toMatchObject({ kind: 'rotate', dueAt: new Date(item?.dueAt ?? 0) });
    expect(item).toMatchObject({ cause: 'interval', from: HYBRID, to: HYBRID, policyRevision: 9 });
  });

  it('refuses a horizon or a page out of bounds', () => {
    for (const over of [
      { days: 0 },
      { days: 3_651 },
      { page: { size: 0, after: null } },
      { page: { size: 1_001, after: null } },
    ]) {
      expect(() => forecastOf([], over)).toThrow(RangeError);
    }
  });
});
