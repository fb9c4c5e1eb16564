/** Quotas of the configuration: whole numbers, none unless told. */
import { describe, expect, it } from '@jest/globals';
import { checkConfig } from '../../src/config.ts';

const NAMES = ['principal', 'namespace', 'key'].flatMap((scope) =>
  ['Day', 'Month'].map((period) => `${scope}UsesPer${period}`),
);
const variable = (name: string) =>
  `TWOFOLD_LIMITS_${name.replaceAll(/[A-Z]/gu, (letter) => `_${letter}`).toUpperCase()}`;
const check = (environment: Record<string, string>) =>
  checkConfig({ environment: { TWOFOLD_MODE: 'dev', ...environment } });

describe.each(NAMES)('limits.%s', (name) => {
  it('is none by default, and as many as told', () => {
    const none = check({});
    expect(none.ok && Reflect.get(none.config.limits, name)).toBe(0);
    const some = check({ [variable(name)]: '250000' });
    expect(some.ok && Reflect.get(some.config.limits, name)).toBe(250_000);
  });

  it.each(['-1', '1.5', '100000001', '1k', ''])('is not "%s"', (value) => {
    const checked = check({ [variable(name)]: value });
    expect(checked.ok ? [] : checked.problems.map(({ where }) => where)).toEqual([variable(name)]);
  });
});
