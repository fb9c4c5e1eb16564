/** A run takes the token's time: where its report has no place it does not begin. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { conformanceCommand } from '../../src/main/conformance-command.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-report-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.each([
  ['a folder', () => folder, /^--json: \/.* is no file\.$/u],
  ['a name that only a folder has', () => `${folder}/new/`, /^--json: \/.* is no file\.$/u],
  // Its place would be taken.
  ['a device', () => '/dev/null', /^--json: \/dev/u],
  ['what is below no folder', () => '/dev/null/x', /^--json: \/dev\/null cannot be written to\.$/u],
])('is refused for %s', async (_, report, words) => {
  const printed: string[] = [];
  const token = ['--module', '/nowhere/module.so', '--pin-file', '/nowhere/pin', '--yes'];
  const ran = conformanceCommand([...token, '--json', report()], (line) => printed.push(line));
  await expect(ran).rejects.toMatchObject({
    code: 'invalid_value',
    detail: expect.stringMatching(words),
  });
  expect([printed, readdirSync(folder)]).toEqual([[], []]);
});
