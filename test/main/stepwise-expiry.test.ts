/** Old rows go in bounded steps until none is left, and a stop does not wait for the rest. */
import { describe, expect, it } from '@jest/globals';
import { StepwiseExpiry } from '../../src/main/stepwise-expiry.ts';

const NOW = new Date('2026-03-31T12:00:00Z');

describe('the expiry of rows', () => {
  it('goes on by steps while there are more, and by the calendar', async () => {
    const asked: [string, number][] = [];
    const left = [10_000, 10_000, 17];
    const expire = (before: Date, limit: number) => {
      asked.push([before.toISOString(), limit]);
      return Promise.resolve(left.shift() ?? 0);
    };
    const expiry = new StepwiseExpiry({ expire }, 'P1M', (error) => {
      throw error;
    });
    await expiry.round(NOW);
    await expiry.stop();
    expect(asked).toEqual(Array.from({ length: 3 }, () => ['2026-02-28T12:00:00.000Z', 10_000]));
  });

  it('ends with the service, also where more would go', async () => {
    let steps = 0;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const expire = async () => {
      steps += 1;
      await promise;
      return 10_000;
    };
    const expiry = new StepwiseExpiry({ expire }, 'P90D', () => undefined);
    const round = expiry.round(NOW);
    const stopped = expiry.stop();
    resolve(undefined);
    await Promise.all([round, stopped]);
    expect(steps).toBe(1);
  });

  it('reports what fails, and tries again the next time', async () => {
    const failures: unknown[] = [];
    const failing = new Error('away');
    const expiry = new StepwiseExpiry({ expire: () => Promise.reject(failing) }, 'P90D', (error) =>
      failures.push(error),
    );
    await expiry.round(NOW);
    await expiry.round(NOW);
    await expiry.stop();
    expect(failures).toEqual([failing, failing]);
  });
});
