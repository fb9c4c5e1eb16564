import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';

import { measureRotation, paced, renderRotation, rotateRoute } from '../../bench/rotation.ts';
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
        backgrounds: (...of) => [rotateRoute(...of, { keys: 2, perSecond: 20 })],
      });
      expect(rows.map(({ background }) => background)).toEqual(['none', '20/s by the route']);
      expect(rows.map(({ rotations }) => rotations > 0)).toEqual([false, true]);
      const { json } = await service.request('GET', '/v1/keys/background-0');
      expect(Number(json['primary'])).toBeGreaterThan(1);
      expect(renderRotation(rows).split('\n')).toHaveLength(3);
    } finally {
      await service.destroy();
    }
  }, 90_000);

  it('are held against the quiet slices', () => {
    const quiet = { background: 'none', rotations: 0, perSecond: 100, p50: 2, p99: 10 };
    const busy = { ...quiet, background: 'busy', rotations: 10, p50: 3 };
    const [, none, within, over] = renderRotation([
      quiet,
      { ...busy, p99: 12 },
      { ...busy, p99: 12.5 },
    ]).split('\n');
    expect(none).not.toContain('>');
    expect(within).toMatch(/1\.50 +1\.20 *$/u);
    expect(over).toMatch(/1\.25 > 1\.2$/u);
  });
});
