/** Old rows go in bounded steps until none is left, and a stop does not wait for the rest. */
import { describe, expect, it } from '@jest/globals';
import { StepwiseExpiry, earlierNow } from '../../src/main/stepwise-expiry.ts';

const clock = () => Promise.resolve(new Date('2026-03-31T12:00:00Z'));

describe('the expiry of rows', () => {
  it('goes on by steps while there are more, and by the calendar', async () => {
    const asked: [string, number][] = [];
    const left = [10_000, 10_000, 17];
    const expire = (before: Date, limit: number) => {
      asked.push([before.toISOString(), limit]);
      return Promise.resolve(left.shift() ?? 0);
    };
    const expiry = new StepwiseExpiry(
      { expire },
      {
        retention: 'P1M',
        clock,
        onFailure: (error) => {
          throw error;
        },
      },
    );
    await expiry.round();
    await expiry.stop();
    expect(asked).toEqual(Array.from({ length: 3 }, () => ['2026-02-28T12:00:00.000Z', 10_000]));
  });

  it('ends with the service, also where more would go', async () => {
    let steps = 0;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const begun = Promise.withResolvers<undefined>();
    const expire = async () => {
      steps += 1;
      begun.resolve(undefined);
      await promise;
      return 10_000;
    };
    const expiry = new StepwiseExpiry(
      { expire },
      { retention: 'P90D', clock, onFailure: () => undefined },
    );
    const round = expiry.round();
    await begun.promise;
    const stopped = expiry.stop();
    resolve(undefined);
    await Promise.all([round, stopped]);
    expect(steps).toBe(1);
  });

  it('reports what fails, and tries again the next time', async () => {
    const failures: unknown[] = [];
    const failing = new Error('away');
    const expiry = new StepwiseExpiry(
      { expire: () => Promise.reject(failing) },
      { retention: 'P90D', clock, onFailure: (error) => failures.push(error) },
    );
    await expiry.round();
    await expiry.round();
    await expiry.stop();
    expect(failures).toEqual([failing, failing]);
  });

  it.each([
    ['is behind', 400 * 86_400_000, 0],
    ['is ahead', 0, 400 * 86_400_000],
    ['is not told', null, 0],
  ])('goes by the earlier clock where that of the database %s', async (_, behind, ahead) => {
    const ours = Date.now();
    const theirs = behind === null ? null : new Date(ours - behind + ahead);
    const now = await earlierNow({ wallClock: () => Promise.resolve(theirs) });
    const wanted = Math.min(ours, theirs?.getTime() ?? Infinity);
    expect(Math.abs(now.getTime() - wanted)).toBeLessThan(60_000);
  });

  it('removes nothing while the time is not known', async () => {
    const failing = new Error('away');
    const failures: unknown[] = [];
    const expire = () => Promise.reject(new Error('not to be asked'));
    const onFailure = (error: unknown) => failures.push(error);
    const away = () => Promise.reject(failing);
    const expiry = new StepwiseExpiry({ expire }, { retention: 'P90D', clock: away, onFailure });
    await expiry.round();
    await expiry.stop();
    expect(failures).toEqual([failing]);
  });
});
