import { describe, expect, it } from '@jest/globals';
import { checkConfig } from '../../src/config.ts';
import { parseDuration } from '../../src/duration.ts';
import { destructionRulesOf } from '../../src/main/destruction-rules.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const check = (environment: Record<string, string>, mode = 'dev') =>
  checkConfig({ environment: { TWOFOLD_MODE: mode, ...environment } });
const rules = (environment: Record<string, string>) => {
  const checked = check(environment);
  return checked.ok ? destructionRulesOf(checked.config) : checked.problems;
};
const wheres = (environment: Record<string, string>, mode?: string) => {
  const checked = check(environment, mode);
  const all = checked.ok ? [] : checked.problems.map(({ where }) => where);
  return all.filter((where) => where.startsWith('destruction'));
};

describe('waits of destructions', () => {
  it('are a week at least and thirty days by default, and nothing is said of backups', () => {
    const expected = { minimumWaitMs: 7 * DAY, defaultWaitMs: 30 * DAY, backupHorizonMs: null };
    expect(rules({})).toEqual(expected);
  });

  it('go down to nothing in development', () => {
    const environment = {
      TWOFOLD_DESTRUCTION_MINIMUM_WAIT: 'P0D',
      TWOFOLD_DESTRUCTION_DEFAULT_WAIT: 'PT2H',
      TWOFOLD_DESTRUCTION_BACKUP_HORIZON: 'P90D',
    };
    const expected = { minimumWaitMs: 0, defaultWaitMs: 2 * HOUR, backupHorizonMs: 90 * DAY };
    expect(rules(environment)).toEqual(expected);
  });

  it('are a day at least in production, and the usual one is not less than the least', () => {
    const least = (wait: string) => ({ TWOFOLD_DESTRUCTION_MINIMUM_WAIT: wait });
    expect(wheres(least('PT23H'), 'production')).toEqual(['destruction.minimumWait']);
    expect(wheres(least('P1D'), 'production')).toEqual([]);
    expect(wheres(least('P31D'))).toEqual(['destruction.defaultWait']);
    expect(check(least('a week')).ok).toBe(false);
  });
});

describe('a duration', () => {
  it.each([
    ['P30D', 30 * DAY],
    ['P2W', 14 * DAY],
    ['PT36H', 36 * HOUR],
    ['P1DT12H', 36 * HOUR],
    ['P0D', 0],
  ])('reads %s', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds);
  });

  it.each([
    '',
    'P',
    'PT',
    'P1DT',
    'P1M',
    'P1Y',
    'PT1M',
    'PT1S',
    'P1.5D',
    'P-1D',
    'p1d',
    'P1D ',
    'P1W1D',
  ])('refuses %j', (text) => {
    expect(parseDuration(text)).toBeUndefined();
  });
});
