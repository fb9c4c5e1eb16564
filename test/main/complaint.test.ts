import { describe, expect, it } from '@jest/globals';

import { TwofoldError } from '../../src/errors.ts';
import { complaintLines } from '../../src/main/complaint.ts';

const thrownBy = (act: () => unknown): unknown => {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
};

describe('what a failed command says', () => {
  it('is our own errors in their own words', () => {
    expect(complaintLines(new TwofoldError('conflict', 'The folder is in use.'))).toEqual([
      'twofold: The folder is in use. (conflict)',
    ]);
  });

  it('quotes no foreign message, which may quote a file', () => {
    const foreign = thrownBy(() => JSON.parse('secret-marker') as unknown);
    expect(complaintLines(foreign)).toEqual([
      'twofold: an unexpected error: SyntaxError (internal)',
    ]);
    expect(complaintLines(new TwofoldError('invalid_value', 'No.', { cause: foreign }))).toEqual([
      'twofold: No. (invalid_value)',
      'because: SyntaxError',
    ]);
    expect(complaintLines('secret-marker').join()).not.toContain('marker');
  });

  it('steers no terminal by what it quotes', () => {
    const zone = 'north\u001b]0;x\u0007\u2066south\u2069\r';
    const [line] = complaintLines(new TwofoldError('conflict', `The zone ${zone} is known.`));
    expect(line).toBe(
      'twofold: The zone north\\u{1b}]0;x\\u{7}\\u{2066}south\\u{2069}\\u{d} is known. (conflict)',
    );
  });

  it('goes on indented where it has several lines', () => {
    const several = new TwofoldError('conflict', 'It is in use.\ntwofold: All is well.');
    expect(complaintLines(several)).toEqual([
      'twofold: It is in use.',
      '  twofold: All is well. (conflict)',
    ]);
  });

  it('names the path that a system call could not open', () => {
    const words = "ENOENT: no such file or directory, open '/nowhere/at/all'";
    const cause = Object.assign(new Error(words), { code: 'ENOENT', syscall: 'open' });
    const [, because] = complaintLines(new TwofoldError('invalid_value', 'No.', { cause }));
    expect(because).toBe(`because: ${words}`);
  });
});
