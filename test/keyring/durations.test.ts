import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  earlier,
  later,
  lengthOf,
  parseDuration,
  storedDuration,
} from '../../src/keyring/durations.ts';
import type { Duration } from '../../src/keyring/durations.ts';
import { codeOf } from './policies.ts';

const DAY = 86_400_000;
const moment = (text: string): number => Date.parse(text);
const duration = (text: string): Duration => storedDuration(text);
const plus = (at: string, text: string): string =>
  new Date(later(moment(at), duration(text))).toISOString();
const minus = (at: string, text: string): string =>
  new Date(earlier(moment(at), duration(text))).toISOString();

describe('the text of a duration', () => {
  it.each([
    ['P1Y', 12, 0],
    ['P1Y6M', 18, 0],
    ['P2W', 0, 14 * DAY],
    ['P90D', 0, 90 * DAY],
    ['PT1H', 0, 3_600_000],
    ['P1M1DT2H3M4S', 1, DAY + 7_384_000],
    ['P100Y', 1200, 0],
    ['P36525D', 0, 36_525 * DAY],
  ])('%s is taken', (text, months, ms) => {
    expect(parseDuration(text)).toEqual({ months, ms });
  });

  it.each([
    ['nothing', ''],
    ['no unit', 'P'],
    ['no unit after T', 'P1DT'],
    ['zero', 'P0D'],
    ['a unit with zero', 'P1Y0M'],
    ['a leading zero', 'P01D'],
    ['a fraction', 'PT1.5H'],
    ['a sign', '-P1D'],
    ['a sign inside', 'P-1D'],
    ['another order', 'P1D1M'],
    ['hours without T', 'P1H'],
    ['lower case', 'p1d'],
    ['a space', ' P1D'],
    ['a line end', 'P1D\n'],
    ['more than 100 years', 'P101Y'],
    ['more than 100 years of months', 'P1201M'],
    ['more than 100 years of days', 'P36526D'],
    ['more than 100 years in all', 'P100YT1S'],
    ['digits without end', `P${'9'.repeat(400)}D`],
    ['other digits', 'P١D'],
  ])('%s is refused', (_name, text) => {
    expect(parseDuration(text)).toBeNull();
    expect(codeOf(() => storedDuration(text))).toBe('integrity_failed');
  });
});

describe('the calendar', () => {
  it.each([
    ['2027-01-31T10:00:00.000Z', 'P1M', '2027-02-28T10:00:00.000Z'],
    ['2028-01-31T10:00:00.000Z', 'P1M', '2028-02-29T10:00:00.000Z'],
    ['2028-02-29T00:00:00.000Z', 'P1Y', '2029-02-28T00:00:00.000Z'],
    ['2028-02-29T00:00:00.000Z', 'P4Y', '2032-02-29T00:00:00.000Z'],
    ['2027-08-31T23:59:59.999Z', 'P6M', '2028-02-29T23:59:59.999Z'],
    ['2027-12-31T00:00:00.000Z', 'P1M', '2028-01-31T00:00:00.000Z'],
    ['2027-01-31T00:00:00.000Z', 'P1M1D', '2027-03-01T00:00:00.000Z'],
    ['2027-03-28T00:30:00.000Z', 'P1D', '2027-03-29T00:30:00.000Z'],
    ['2027-01-01T00:00:00.000Z', 'P1WT1H', '2027-01-08T01:00:00.000Z'],
  ])('%s and %s are %s', (at, text, end) => {
    expect(plus(at, text)).toBe(end);
  });

  it('goes back the same way', () => {
    expect(minus('2027-03-31T00:00:00.000Z', 'P1M')).toBe('2027-02-28T00:00:00.000Z');
    expect(minus('2027-03-31T00:00:00.000Z', 'P1MT1H')).toBe('2027-02-27T23:00:00.000Z');
    expect(minus('2028-02-29T00:00:00.000Z', 'P1Y')).toBe('2027-02-28T00:00:00.000Z');
  });

  it('is clamped to the month meant, always', () => {
    const at = fc.integer({ min: 0, max: Date.UTC(2200, 0, 1) });
    fc.assert(
      fc.property(at, fc.integer({ min: 1, max: 1200 }), (start, months) => {
        const [from, to] = [new Date(start), new Date(later(start, { months, ms: 0 }))];
        const wanted = from.getUTCFullYear() * 12 + from.getUTCMonth() + months;
        expect(to.getUTCFullYear() * 12 + to.getUTCMonth()).toBe(wanted);
        expect(to.getUTCDate()).toBeLessThanOrEqual(from.getUTCDate());
        const isLast = new Date(to.getTime() + DAY).getUTCDate() === 1;
        expect(to.getUTCDate() === from.getUTCDate() || isLast).toBe(true);
        expect(to.getTime() % DAY).toBe(start % DAY);
      }),
    );
  });

  it('has the lengths that bounds compare', () => {
    expect(lengthOf(duration('P1Y'))).toBe(366 * DAY);
    expect(lengthOf(duration('P1M'))).toBe(31 * DAY);
    expect(lengthOf(duration('PT1H'))).toBe(3_600_000);
  });
});
