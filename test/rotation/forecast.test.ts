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
import { DAY, START, at, key, suite, version } from './keys.ts';

const numberOf = (id: string): number => findSuite(id).number;

const HYBRID = suite('MLKEM768-P256');
const OPTIONS: ForecastOptions = {
  now: at(0),
  days: 100,
  policies: [],
  budgets: { perMinute: null, storageBytes: null, hsmMsPerDay: null },
  lateAfterMs: 300_000,
  page: { size: 50, after: null },
};

let counter = 0;
const light = (over: Partial<LightKey> = {}, primary = {}): LightKey => {
  counter += 1;
  return {
    id: `00000000-0000-4000-8000-${String(counter).padStart(12, '0')}`,
    name: `key-${String(counter)}`,
    purpose: 'wrap',
    labels: {},
    rotation: null,
    suspended: false,
    primary: { suite: HYBRID, activatedAt: START, uses: 0, ...primary },
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
      light({ rotation: every('P30D'), primary: null }),
      light({ rotation: every('P30D') }, { activatedAt: START - 90 * DAY }),
      light({ rotation: policy({ maxUses: 5 }) }, { uses: 5, activatedAt: START - 90 * DAY }),
      light(
        { rotation: policy({ upgrade: { suite: numberOf('MLKEM1024-P384'), notBefore: at(-9) } }) },
        { activatedAt: START - DAY * 99 },
      ),
    ]);
    expect(forecast).toMatchObject({
      keys: 8,
      unplanned: 2,
      waiting: { paused: 1, suspended: 1, withoutPrimary: 1 },
      late: { count: 2, byUse: 1 },
    });
    const oldest = forecast.late.oldest?.getTime() ?? 0;
    expect(oldest).toBeGreaterThanOrEqual(at(-61.5).getTime());
    expect(oldest).toBeLessThanOrEqual(at(-60).getTime());
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
