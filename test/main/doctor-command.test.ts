import { describe, expect, it } from '@jest/globals';

import { exitCodeOf } from '../../src/main/doctor-command.ts';

describe('the exit code of doctor', () => {
  const clean = { secrets: 1, tooShort: [], places: ['database'], findings: [] };
  const finding = { what: 'a PIN', form: 'raw', where: 'database', offset: 0 };

  it.each([
    [0, clean],
    [1, { ...clean, findings: [finding] }],
    [1, { ...clean, findings: [finding], tooShort: ['user.pin'] }],
    [3, { ...clean, tooShort: ['user.pin'] }],
  ])('is %i', (code, report) => {
    expect(exitCodeOf(report)).toBe(code);
  });
});
