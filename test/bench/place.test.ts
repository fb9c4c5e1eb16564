/** A run that takes minutes is refused where its report has no place. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { requirePlace } from '../../bench/place.ts';

const root = join(import.meta.dirname, '../..');
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-place-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

it('takes a new file, one that is there, as it is, and a device', () => {
  writeFileSync(at('there'), 'a former report');
  for (const file of [at('new'), at('there'), '/dev/null']) requirePlace(file);
  expect(readFileSync(at('there'), 'utf8')).toBe('a former report');
  expect(readdirSync(folder)).toEqual(['there']);
});

it('takes no folder, no name of one, and nothing below what is none', () => {
  for (const file of [folder, at('new/'), '', at('there/x'), at('nowhere/x')]) {
    expect(() => requirePlace(file)).toThrow();
  }
});

it('takes no file that cannot be written', async () => {
  // A program that runs: its mode says nothing, and root cannot write it either.
  copyFileSync('/bin/sleep', at('busy'));
  const child = spawn(at('busy'), ['60'], { stdio: 'ignore' });
  await once(child, 'spawn');
  try {
    expect(() => requirePlace(at('busy'))).toThrow(/ETXTBSY/u);
  } finally {
    child.kill();
  }
});

it('is asked before the bench begins', () => {
  const argv = ['scripts/launch-dev', 'bench/run.ts', 'engines', '--json', folder];
  const { status, stdout, stderr } = spawnSync('sh', argv, { cwd: root, encoding: 'utf8' });
  expect([status, stdout, stderr]).toEqual([2, '', `bench: not run: ${folder} is no file\n`]);
}, 30_000);
