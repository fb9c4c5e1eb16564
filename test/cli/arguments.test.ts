import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { parseFlags, requireNothingMore } from '../../src/cli/arguments.ts';
import { parseDuration } from '../../src/cli/duration.ts';
import { TwofoldError } from '../../src/errors.ts';

const FLAGS = { role: 'list', ttl: 'value', header: 'switch' } as const;

const code = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return TwofoldError.from(error).code;
  }
  return 'none';
};

describe('arguments', () => {
  it('takes both spellings, lists and switches', () => {
    const { values } = parseFlags(
      ['--role', 'user', '--role=auditor', '--ttl=1h', '--header'],
      FLAGS,
    );
    expect([...values]).toEqual([
      ['role', ['user', 'auditor']],
      ['ttl', ['1h']],
      ['header', ['']],
    ]);
  });

  it.each([
    ['an unknown flag', ['--rôle', 'x']],
    ['a flag of another command', ['--log', 'x']],
    ['a member of the prototype', ['--constructor', 'x']],
    ['a repeated value', ['--ttl', '1h', '--ttl', '2h']],
    ['a missing value', ['--ttl']],
    ['an empty value', ['--ttl=']],
    ['a switch with a value', ['--header=yes']],
    ['a short flag', ['-h']],
  ])('refuses %s', (_name, argv) => {
    expect(code(() => parseFlags(argv, FLAGS))).toBe('invalid_value');
  });

  it('refuses what no flag took', () => {
    expect(code(() => requireNothingMore(parseFlags(['user'], FLAGS)))).toBe('invalid_value');
    expect(code(() => requireNothingMore(parseFlags([], FLAGS)))).toBe('none');
  });
});

describe('durations', () => {
  it.each([
    ['90s', 90],
    ['15m', 900],
    ['1h', 3_600],
    ['1d', 86_400],
    ['PT1H', 3_600],
    ['PT1H30M', 5_400],
    ['P1DT1S', 86_401],
  ])('%s is %d seconds', (text, seconds) => {
    expect(parseDuration(text)).toBe(seconds);
  });

  it.each(['', '0s', '1', 'h', '-1h', '1.5h', 'P', 'PT', '1h ', '1w', '9999999999s', 'NaNs'])(
    'refuses "%s"',
    (text) => {
      expect(code(() => parseDuration(text))).toBe('invalid_value');
    },
  );

  it('never answers anything but whole positive seconds', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          const seconds = parseDuration(text);
          return Number.isInteger(seconds) && seconds >= 1;
        } catch (error) {
          return TwofoldError.is(error, 'invalid_value');
        }
      }),
    );
  });
});
