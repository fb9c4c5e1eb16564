import { describe, expect, it } from '@jest/globals';
import { checkConfig, parseUntil } from '../../src/config.ts';
import { suitePolicyOf } from '../../src/main/suite-policy.ts';

const check = (environment: Record<string, string>) =>
  checkConfig({ environment: { TWOFOLD_MODE: 'dev', ...environment } });
const policy = (environment: Record<string, string>) => {
  const checked = check(environment);
  return checked.ok ? suitePolicyOf(checked.config) : checked.problems;
};

describe('suites', () => {
  it('admits every suite without end by default, and no experimental one', () => {
    expect(policy({})).toEqual({
      profile: 'default',
      allow: [],
      classicalUntil: null,
      experimental: false,
      tokenKeysNamed: false,
    });
    const several = policy({ TWOFOLD_ZONE_OTHERS: '["b"]' });
    expect(several).toMatchObject({ tokenKeysNamed: true });
  });

  it('takes all four from the environment', () => {
    expect(
      policy({
        TWOFOLD_SUITES_PROFILE: 'fips',
        TWOFOLD_SUITES_ALLOW: '["ML-KEM-768","ML-DSA-65"]',
        TWOFOLD_SUITES_CLASSICAL_UNTIL: '2027-06-30',
        TWOFOLD_SUITES_EXPERIMENTAL: 'true',
      }),
    ).toEqual({
      profile: 'fips',
      allow: ['ML-KEM-768', 'ML-DSA-65'],
      classicalUntil: new Date('2027-07-01T00:00:00Z'),
      experimental: true,
      tokenKeysNamed: false,
    });
  });

  it('stops at ids that are no suites, inherited names included, and names them', () => {
    expect(check({ TWOFOLD_SUITES_ALLOW: '["ML-KEM-768","Kyber768","toString"]' })).toEqual({
      ok: false,
      problems: [
        { where: 'suites.allow', message: 'lists what is no suite: "Kyber768", "toString"' },
      ],
    });
  });

  it.each([
    ['never', 'never'],
    ['2028-02-29', new Date('2028-03-01T00:00:00Z')],
    ['2027-06-30T12:00:00Z', new Date('2027-06-30T12:00:00Z')],
    ['2027-06-30T12:00:00.5+02:00', new Date('2027-06-30T10:00:00.500Z')],
  ])('reads %s', (text, until) => {
    expect(parseUntil(text)).toEqual(until);
  });

  it.each([
    ['', 'always', '2027', '2027-6-30', '2027-02-29', '2027-02-30', '2027-13-01', '30.06.2027'],
    ['2027-06-30T12:00', '2027-06-30T12:00:00', '2027-02-30T00:00:00Z', '2027-06-30T24:00:00Z'],
    ['2027-06-30T12:60:00Z', '2027-06-30 12:00:00Z', 'NEVER', ' never'],
  ])('refuses %s', (...texts) => {
    for (const text of texts) expect([text, parseUntil(text)]).toEqual([text, undefined]);
    expect(check({ TWOFOLD_SUITES_CLASSICAL_UNTIL: '2027-02-30' }).ok).toBe(false);
  });
});
