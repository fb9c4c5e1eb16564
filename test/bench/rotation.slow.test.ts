import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';

import {
  measureRotation,
  paced,
  pooledRatio,
  ratios,
  renderRotation,
  rotateByOrder,
  rotateRoute,
} from '../../bench/rotation.ts';
import { TestService } from '../e2e/service.ts';

describe('a paced background', () => {
  it('has few calls in flight, counts those that ended, and ends with none', async () => {
    let [under, most, ended] = [0, 0, 0];
    const pace = paced(2_000, async () => {
      under += 1;
      most = Math.max(most, under);
      await sleep(5);
      under -= 1;
      ended += 1;
    });
    while (ended < 20) await sleep(5);
    expect(await pace.stop()).toBe(ended);
    expect(under).toBe(0);
    expect(most).toBeLessThanOrEqual(4);
  });

  it('fails with the first call that failed', async () => {
    const pace = paced(1_000, () => Promise.reject(new Error('refused')));
    await expect(pace.stop()).rejects.toThrow('refused');
  });
});

describe('unwraps beside rotations', () => {
  it('are measured quiet and busy in one run, and rotations took place', async () => {
    const service = await TestService.start();
    try {
      const rows = await measureRotation(service, {
        ...{ seconds: 0.5, rounds: 1, keys: 2 },
        backgrounds: (...of) => [
          rotateRoute(...of, { keys: 2, perSecond: 20 }),
          rotateByOrder(of[0]),
        ],
      });
      const names = ['none', '20/s by the route', 'by the scheduler'];
      expect(rows.map(({ background }) => background)).toEqual(names);
      // An order is carried out from the next tick on, which may come after so short a slice.
      expect(rows.slice(0, 2).map(({ rotations }) => rotations > 0)).toEqual([false, true]);
      const { json } = await service.request('GET', '/v1/keys/background-0');
      expect(Number(json['primary'])).toBeGreaterThan(1);
      expect(renderRotation(rows).split('\n')).toHaveLength(4);
    } finally {
      await service.destroy();
    }
  }, 90_000);

  it('are held against the quiet slices', () => {
    const quiet = {
      ...{ background: 'none', rotations: 0, perSecond: 100, p50: 2, p99: 10 },
      ratio: null,
      pooled: null,
    };
    const busy = { ...quiet, background: 'busy', rotations: 10, p50: 3 };
    const spread = { low: 0.9, median: 1.2, high: 1.4 };
    const [, none, within, over] = renderRotation([
      quiet,
      { ...busy, ratio: spread, pooled: spread },
      { ...busy, ratio: spread, pooled: { ...spread, median: 1.25 } },
    ]).split('\n');
    expect(none).not.toContain('>');
    expect(within).toMatch(/1\.50( +1\.20 \(0\.90-1\.40\)){2} *$/u);
    expect(over).toMatch(/1\.25 \(0\.90-1\.40\) > 1\.2 *$/u);
  });

  it('are each held against the quiet slices before and after it', () => {
    // The machine becomes twice as slow, and the background costs a fifth all the time.
    const quiet = [10, 20, 30, 40, 50];
    const busy = [18, 30, 42, 54];
    const { low, median, high } = ratios(busy, quiet);
    for (const ratio of [low, median, high]) expect(ratio).toBeCloseTo(1.2);
    expect(ratios([10, 20, 30], [10, 10, 10, 10])).toEqual({ low: 2, median: 2, high: 3 });
  });

  it('are held against each other whole, round by round', () => {
    const slice = (scale: number) => Float64Array.from({ length: 200 }, (_, n) => (n + 1) * scale);
    // The machine is ten times as slow in the middle, for both; the background costs a tenth.
    const quiet = [1, 10, 10, 1, 1].map(slice);
    const busy = [1.1, 11, 1.1, 1.1].map(slice);
    const { low, median, high } = pooledRatio(busy, quiet);
    expect(median).toBeGreaterThan(0.9);
    expect(low).toBeLessThanOrEqual(median);
    expect(high).toBeGreaterThanOrEqual(median);
    const still = pooledRatio([slice(3), slice(3)], [slice(2), slice(2), slice(2)]);
    for (const ratio of Object.values(still)) expect(ratio).toBeCloseTo(1.5);
  });
});
