import { describe, expect, it } from '@jest/globals';
import { checkConfig } from '../../src/config.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { newPolicy } from '../../src/keyring/rotation-policy.ts';
import { policyLimitsOf } from '../../src/main/rotation-limits.ts';
import { NO_TERMS } from '../keyring/policies.ts';

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

describe('the suite of an upgrade', () => {
  it('is one that the configuration admits', () => {
    const upgradeTo = (suite: string, environment: Record<string, string> = {}) => {
      const checked = checkConfig({ environment: { TWOFOLD_MODE: 'dev', ...environment } });
      if (!checked.ok) throw new Error('refused');
      const upgrade = { suite: findSuite(suite).number, notBefore: new Date('2030-01-01') };
      return () => newPolicy({ ...NO_TERMS, upgrade }, policyLimitsOf(checked.config));
    };
    const refused = expect.objectContaining({ code: 'suite_unavailable_here' });
    expect(upgradeTo('Falcon-512')).toThrow(refused);
    expect(
      upgradeTo('Falcon-512', { TWOFOLD_SUITES_EXPERIMENTAL: 'true' })().upgrade,
    ).not.toBeNull();
    expect(upgradeTo('MLKEM768-P256', { TWOFOLD_SUITES_PROFILE: 'cnsa2' })).toThrow(refused);
    expect(upgradeTo('MLKEM768-P256')().upgrade?.suite).toBe(findSuite('MLKEM768-P256').number);
  });
});

describe('the shortest interval of a rotation policy', () => {
  it('is a minute in development unless told, and an hour in production', () => {
    expect(limits()).toBe(60_000);
    const checked = check('dev');
    if (!checked.ok) throw new Error('refused');
    const production = { ...checked.config, mode: 'production', rotation: {} } as const;
    expect(policyLimitsOf(production).minimumMs).toBe(3_600_000);
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
