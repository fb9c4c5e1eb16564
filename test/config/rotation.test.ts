import { describe, expect, it } from '@jest/globals';
import { checkConfig } from '../../src/config.ts';
import { policyLimitsOf } from '../../src/main/rotation-limits.ts';

const check = (mode: string, minInterval?: string) =>
  checkConfig({
    environment: {
      TWOFOLD_MODE: mode,
      ...(minInterval === undefined ? {} : { TWOFOLD_ROTATION_MIN_INTERVAL: minInterval }),
    },
  });
const limits = (minInterval?: string) => {
  const checked = check('dev', minInterval);
  return checked.ok ? policyLimitsOf(checked.config).minimumMs : checked.problems;
};
const wheres = (mode: string, minInterval: string) => {
  const checked = check(mode, minInterval);
  const all = checked.ok ? [] : checked.problems.map(({ where }) => where);
  return all.filter((where) => where.startsWith('rotation'));
};

describe('the shortest interval of a rotation policy', () => {
  it('is a minute in development unless told, and an hour in production', () => {
    expect(limits()).toBe(60_000);
    expect(policyLimitsOf({ mode: 'production', rotation: {} }).minimumMs).toBe(3_600_000);
  });

  it('is what the configuration says, a second at least', () => {
    expect(limits('PT5S')).toBe(5_000);
    expect(limits('P1D')).toBe(86_400_000);
    for (const text of ['P0D', '5 seconds', '']) expect(check('dev', text).ok).toBe(false);
  });

  it('is an hour at least in production', () => {
    expect(wheres('production', 'PT59M')).toEqual(['rotation.minInterval']);
    expect(wheres('production', 'PT1H')).toEqual([]);
    expect(wheres('production', 'P7D')).toEqual([]);
  });
});
