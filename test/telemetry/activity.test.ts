import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { Activity, STEPS, STEP_SECONDS } from '../../src/telemetry/activity.ts';
import { DurationCounts } from '../../src/telemetry/durations.ts';

const GROUPS = ['a', 'b'] as const;
type Group = (typeof GROUPS)[number];

let now = 0;
let queued = 0;
const open = () => {
  now = 1_000;
  queued = 0;
  return new Activity<Group>({
    groups: GROUPS,
    groupOf: (route) => (route === null ? 'b' : route === 'probe' ? null : 'a'),
    queued: () => queued,
    clock: () => now,
  });
};
const request = (route: string | null, status = 200, milliseconds = 1) => ({
  route,
  method: 'POST',
  status,
  code: null,
  milliseconds,
});
const after = (activity: Activity<Group>, milliseconds: number) => {
  now += milliseconds;
  activity.look();
};
const seriesOf = (activity: Activity<Group>) => {
  const { requests, ...others } = activity.history();
  return [...Object.values(requests), ...Object.values(others)];
};

describe('activity', () => {
  it('counts by group and outcome, per second', () => {
    const activity = open();
    for (let n = 0; n < 50; n += 1) activity.request(request('x'));
    for (let n = 0; n < 10; n += 1) activity.request(request(null, 404));
    activity.request(request('x', 503));
    activity.request(request('probe'));
    after(activity, 5_000);
    expect(activity.history()).toMatchObject({
      requests: { a: [10.2], b: [2] },
      refused: [2],
      failed: [0.2],
    });
  });

  it('ends a step after five seconds and not before', () => {
    const activity = open();
    for (const [milliseconds, steps] of [
      [1_000, 0],
      [3_000, 0],
      [995, 1],
      [1_000, 1],
      [4_000, 2],
    ] as const) {
      after(activity, milliseconds);
      expect(activity.history().failed).toHaveLength(steps);
    }
  });

  it('keeps the highest queue of a step, and begins the next without it', () => {
    const activity = open();
    for (const depth of [1, 9, 2]) {
      queued = depth;
      after(activity, 1_000);
    }
    after(activity, 2_000);
    queued = 0;
    after(activity, 5_000);
    expect(activity.history().queued).toEqual([9, 0]);
  });

  it('has no latency where there were no requests, and gaps where it stood still', () => {
    const activity = open();
    activity.request(request('x', 200, 8));
    after(activity, 5_000);
    after(activity, 5_000);
    after(activity, 20_000);
    const { p50, p99, requests } = activity.history();
    expect(p50).toEqual([expect.closeTo(8, 0), null, null, null, null, null]);
    expect(p99).toEqual(p50);
    expect(requests.a).toEqual([0.2, 0, null, null, null, 0]);
  });

  it('stays bounded and holds numbers only, whatever happens', () => {
    const event = fc.oneof(
      fc.record({ wait: fc.double({ min: 0, max: 1e7, noNaN: true }) }),
      fc.record({
        milliseconds: fc.oneof(fc.double(), fc.double({ min: 0, max: 1e5, noNaN: true })),
        status: fc.integer({ min: 100, max: 599 }),
      }),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 400 }), (events) => {
        const activity = open();
        for (const each of events) {
          if ('wait' in each) after(activity, each.wait);
          else activity.request(request('x', each.status, each.milliseconds));
        }
        const all = seriesOf(activity);
        const [{ length } = []] = all;
        expect(length).toBeLessThanOrEqual(STEPS);
        for (const series of all) {
          expect(series).toHaveLength(length);
          expect(
            series.every((value) => value === null || (Number.isFinite(value) && value >= 0)),
          ).toBe(true);
        }
        const { p50, p99 } = activity.history();
        p50.forEach((median, n) => expect(median ?? 0).toBeLessThanOrEqual(p99[n] ?? 0));
      }),
    );
    expect(STEPS * STEP_SECONDS).toBe(900);
  });

  it('forgets what is older than a quarter of an hour', () => {
    const activity = open();
    for (let n = 0; n < STEPS + 40; n += 1) {
      activity.request(request('x', n < 40 ? 500 : 200));
      after(activity, 5_000);
    }
    const { failed, requests } = activity.history();
    expect(failed).toEqual(Array.from({ length: STEPS }, () => 0));
    expect(requests.a).toEqual(Array.from({ length: STEPS }, () => 0.2));
  });

  it('costs next to nothing a request', () => {
    const node = join(import.meta.dirname, '../../node_modules/.bin/node');
    const program = join(import.meta.dirname, 'activity-cost.ts');
    const nanoseconds = Number(execFileSync(node, [program], { encoding: 'utf8' }));
    // Some 50 here; a request takes 30,000 of the processor before it has done anything.
    expect(nanoseconds).toBeGreaterThan(0);
    expect(nanoseconds).toBeLessThan(1_000);
  });
});

describe('the timer', () => {
  let activity: Activity<Group> | undefined;
  afterEach(() => activity?.close());

  it('looks once a second by itself', async () => {
    activity = open();
    activity.start();
    queued = 5;
    now += 5_000;
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    expect(activity.history().queued).toEqual([5]);
    activity.close();
    now += 5_000;
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    expect(activity.history().queued).toEqual([5]);
  });
});

describe('durations', () => {
  it('have quantiles that are off by less than 5 %', () => {
    const duration = fc.double({ min: 0.02, max: 16_000, noNaN: true });
    fc.assert(
      fc.property(fc.array(duration, { minLength: 1, maxLength: 200 }), (given) => {
        const counts = new DurationCounts();
        for (const each of given) counts.add(each);
        const sorted = given.toSorted((a, b) => a - b);
        for (const q of [0, 0.5, 0.99, 1]) {
          const exact = sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? 0;
          const ratio = (counts.quantile(q) ?? 0) / exact;
          expect(ratio).toBeGreaterThan(0.95);
          expect(ratio).toBeLessThan(1.05);
        }
      }),
    );
  });

  it('take any number', () => {
    const counts = new DurationCounts();
    for (const each of [Number.NaN, Infinity, -Infinity, -1, 0, 1e12]) counts.add(each);
    expect(counts.total).toBe(6);
    expect(Number.isFinite(counts.quantile(0.5))).toBe(true);
    counts.clear();
    expect(counts.quantile(0.5)).toBeNull();
  });
});
