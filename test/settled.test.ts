import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { TwofoldError } from '../src/errors.ts';
import { attempt, settleEach, settleRest } from '../src/settled.ts';

const refused = (index: number) => new TwofoldError('invalid_value', String(index));
const next = () => new Promise((resolve) => setImmediate(resolve));

describe('what becomes of each of many', () => {
  it('keeps its place, whatever failed before and whatever fails now', async () => {
    const fates = fc.array(fc.constantFrom('before', 'now', 'ok'));
    await fc.assert(
      fc.asyncProperty(fates, async (given) => {
        const items = given.map((fate, index) => (fate === 'before' ? refused(index) : index));
        const seen: number[] = [];
        const settled = await settleRest(items, async (rest) => {
          seen.push(...rest);
          await next();
          return rest.map((index) => (given[index] === 'now' ? refused(index) : `${index}`));
        });
        const told = settled.map((one) => (TwofoldError.is(one) ? one.detail : one));
        expect(told).toEqual(given.map((_, index) => `${index}`));
        expect(settled.map((one) => TwofoldError.is(one))).toEqual(given.map((f) => f !== 'ok'));
        expect(seen).toEqual([...given.keys()].filter((index) => given[index] !== 'before'));
      }),
    );
  });

  it('is the failure of the whole for those that had not failed before it', async () => {
    const down = new TwofoldError('database_unavailable');
    const [first, second] = await settleRest([refused(0), 1], () => Promise.reject(down));
    expect(first).toMatchObject({ code: 'invalid_value' });
    expect(second).toBe(down);
    const [unknown] = await settleRest([1], () => Promise.reject(new RangeError('x')));
    expect(unknown).toMatchObject({ code: 'internal' });
    const [missing] = await settleRest([1, refused(1), 2], async () => [1]).catch(() => ['thrown']);
    expect(missing).toBe('thrown');
  });

  it('is what the act gives or fails with', () => {
    const fail = (error: Error) => () => {
      throw error;
    };
    expect(attempt(() => 1)).toBe(1);
    expect(attempt(fail(refused(1)))).toMatchObject({ code: 'invalid_value' });
    expect(attempt(fail(new Error('x')))).toMatchObject({ code: 'internal' });
  });

  it('one by one: so many at once, and none stops another', async () => {
    let [running, most] = [0, 0];
    const items = Array.from({ length: 50 }, (_, index) => index);
    const settled = await settleEach(items, 7, async (item) => {
      running += 1;
      most = Math.max(most, running);
      await next();
      running -= 1;
      if (item % 3 === 0) throw refused(item);
      return item;
    });
    expect(most).toBe(7);
    const told = settled.map((one) => (TwofoldError.is(one) ? -1 : one));
    expect(told).toEqual(items.map((item) => (item % 3 === 0 ? -1 : item)));
  });
});
