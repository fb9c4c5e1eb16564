/** A forecast is one guest among others: it gives way while it folds. */
import { describe, expect, it } from '@jest/globals';
import { forecast } from '../../src/rotation/forecast.ts';
import type { LightKey } from '../../src/rotation/ports.ts';
import { policy } from '../keyring/policies.ts';
import { DAY, START, at, suite } from './keys.ts';

const DAILY = policy({ interval: 'P1D' });
const batchOf = (count: number): readonly LightKey[] =>
  Array.from({ length: count }, (_, n) => ({
    id: `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`,
    name: `key-${String(n)}`,
    purpose: 'wrap',
    labels: {},
    rotation: DAILY,
    rotationHold: null,
    suspended: false,
    primary: {
      suite: suite('MLKEM768-P256'),
      activatedAt: START - (n % 9) * DAY,
      uses: 0,
      deactivateAt: null,
    },
    next: null,
    superseded: [],
  }));
const once = async function* (keys: readonly LightKey[]) {
  yield await Promise.resolve(keys);
};
const OPTIONS = {
  now: at(0),
  days: 3_650,
  policies: [],
  paused: null,
  budgets: { perMinute: 600, storageBytes: null, hsmMsPerDay: null },
  lateAfterMs: DAY,
  page: { size: 50, after: null },
};
const costs = () => Promise.resolve(new Map());

describe('a forecast', () => {
  it('of ten years of daily rotations lets others have their turn all the while', async () => {
    const keys = batchOf(1_000);
    let turns = 0;
    const timer = setInterval(() => {
      turns += 1;
    }, 1);
    const before = process.threadCpuUsage();
    try {
      const { signal } = new AbortController();
      const { total } = await forecast(once(keys), OPTIONS, { costs, signal });
      // A little more than one a day: intervals are shorter by their jitter.
      expect(total.rotations / 1_000 / 3_650).toBeCloseTo(1.05, 1);
    } finally {
      clearInterval(timer);
    }
    // A slice is 8 ms, of the thread's own time: that in which others have the processor is nobody's turn.
    const { user, system } = process.threadCpuUsage(before);
    expect(turns).toBeGreaterThan((user + system) / 1e3 / 32);
  });

  it('ends in the middle of a batch once nobody waits for it', async () => {
    const controller = new AbortController();
    const reason = new Error('gone');
    const told = forecast(once(batchOf(20_000)), OPTIONS, {
      costs: () => Promise.reject(new Error('it went on')),
      signal: controller.signal,
    });
    setTimeout(() => controller.abort(reason), 1);
    await expect(told).rejects.toBe(reason);
  });
});
