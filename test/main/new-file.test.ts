/** A file that a command leaves behind is whole, or not there. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { writeNew } from '../../src/main/new-file.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-new-file-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

it('is written with its mode, and never over one that is there', () => {
  const path = join(folder, 'key');
  writeNew(path, 'mine', 0o600);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(() => writeNew(path, 'another', 0o600)).toThrow('EEXIST');
  expect(readFileSync(path, 'utf8')).toBe('mine');
});

it('is not there where it could not be written whole', () => {
  const path = join(folder, 'part');
  const module = JSON.stringify(join(import.meta.dirname, '../../src/main/new-file.ts'));
  const script = [
    `import { writeNew } from ${module};`,
    `try { writeNew(process.argv[1], 'x'.repeat(4096), 0o600); } catch ({ code }) { console.log(code); }`,
  ].join('\n');
  // A limit on files stands for a full disk: 1 KiB, of which the first write takes what it can.
  const limited = ['-c', `ulimit -f 1; trap '' XFSZ; exec "$@"`, 'bash', process.execPath];
  const { stdout } = spawnSync('bash', [...limited, '--input-type=module', '-e', script, path], {
    env: {},
    encoding: 'utf8',
  });
  expect(stdout.trim()).toBe('EFBIG');
  expect(existsSync(path)).toBe(false);
});
