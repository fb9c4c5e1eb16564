import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { readCarriedFile } from '../../src/recovery/carried-file.ts';

let folder: string;
const at = (name: string) => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-carried-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const refusal = (path: string): unknown => {
  try {
    return readCarriedFile(path, 8);
  } catch (error) {
    return error;
  }
};

it('is read up to its last byte', () => {
  writeFileSync(at('short'), 'äb');
  writeFileSync(at('full'), '12345678');
  expect(readCarriedFile(at('short'), 8)).toBe('äb');
  expect(readCarriedFile(at('full'), 8)).toBe('12345678');
});

it('is no pipe, device or folder, is there, and is as long as it may be', () => {
  execFileSync('mkfifo', [at('pipe')]);
  symlinkSync('/dev/zero', at('device'));
  mkdirSync(at('folder'));
  writeFileSync(at('long'), '123456789');
  // Says that it has no byte.
  const paths = [...['pipe', 'device', 'folder', 'long', 'missing'].map(at), '/proc/self/status'];
  for (const path of paths) expect(refusal(path)).toMatchObject({ code: 'invalid_value' });
});
