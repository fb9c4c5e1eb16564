/** The commands that a start prints, run as they stand by a shell. */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { TestService } from './service.ts';

const root = join(import.meta.dirname, '../..');
let service: TestService;
let folder: string;

beforeAll(async () => {
  service = await TestService.start();
  folder = mkdtempSync(join(tmpdir(), 'twofold-tour-'));
  copyFileSync(join(root, 'package.json'), join(folder, 'package.json'));
}, 90_000);

afterAll(async () => {
  await service.destroy();
  rmSync(folder, { recursive: true, force: true });
});

/** The printed commands, one shell script; the command of a clone is called by its path. */
function printedCommands(): string {
  const [, text = ''] = /in this folder:\n\n([\s\S]*?)\n\nCtrl-C/.exec(service.output) ?? [];
  const command = `TWOFOLD_DATA=${service.dataDir} ${join(root, 'scripts/twofold')}`;
  return text.replaceAll('npx twofold', command);
}

describe('the printed tour', () => {
  it('creates, wraps, unwraps, signs, verifies, rotates, and is refused where it must be', async () => {
    const { stdout } = await promisify(execFile)('bash', ['-c', `set -e\n${printedCommands()}`], {
      cwd: folder,
      env: { PATH: process.env['PATH'] ?? '' },
    });
    const answers = stdout.replaceAll('}{', '}\n{').replaceAll('}same', '}\nsame').split('\n');
    const documents = answers
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(
      documents.map(({ name, valid, code, primary }) => name ?? valid ?? code ?? primary),
    ).toEqual(['demo', 'signer', true, 'demo', 'decryption_failed', 'forbidden', undefined]);
    expect(documents[3]).toMatchObject({ name: 'demo', primary: 2, latestVersion: 2 });
    expect(documents[6]?.['items']).toHaveLength(3);
    expect(answers.filter((line) => line.trim() === 'same')).toHaveLength(2);
    expect(readFileSync(join(folder, 'data.key.again'))).toEqual(
      readFileSync(join(folder, 'data.key')),
    );
  }, 60_000);
});
