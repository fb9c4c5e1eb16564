/** The README's walk-through of two teams, run as it stands by a shell. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { TestService } from './service.ts';

const root = join(import.meta.dirname, '../..');
const TITLE = 'Two teams, one auditor, a destruction by two';
const MARK = '=== end of a command ===';
let service: TestService;
beforeAll(async () => {
  service = await TestService.start();
}, 90_000);
afterAll(() => service.destroy());

/** The commands of the section. */
function commands(): readonly string[] {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const section = readme.split(/^## /mu).find((text) => text.startsWith(`${TITLE}\n`)) ?? '';
  return [...section.matchAll(/^\$ (.*)$/gmu)].map(([, command = '']) => command);
}

/** What each command printed. */
async function run(): Promise<readonly string[]> {
  const script = commands()
    .map((command) => `${command}\necho '${MARK}'`)
    .join('\n')
    .replace('D=.twofold U=http://127.0.0.1:8370', `D=${service.dataDir} U=${service.url}`)
    .replaceAll('npx twofold', join(root, 'scripts/twofold'));
  const env = { ...COMMAND_ENVIRONMENT, TWOFOLD_DATA: service.dataDir };
  const { stdout } = await promisify(execFile)('/bin/sh', ['-euc', script], { env });
  return stdout.split(`${MARK}\n`).map((text) => text.trim());
}

describe(`the README on: ${TITLE}`, () => {
  it('is what happens', async () => {
    const [, , teams = '', ...rest] = await run();
    const states = teams.split('\n').map((line) => JSON.parse(line) as unknown);
    expect(states).toMatchObject([{ name: 'red' }, { name: 'blue' }]);
    const answers = rest.filter((text) => text !== '').map((text) => JSON.parse(text) as unknown);
    expect(answers).toMatchObject([
      { name: 'orders', namespace: 'red' },
      { code: 'key_not_found' },
      { name: 'two-people', needed: 1 },
      { state: 'pending', requester: { subject: 'alice' } },
      { code: 'self_approval' },
      { state: 'approved', approvals: [{ subject: 'bob' }] },
      { name: 'orders', destruction: { reason: 'migrated' } },
      { code: 'approval_used' },
      {
        items: [
          { actor: { subject: 'bob' }, outcome: 'ok' },
          { actor: { subject: 'alice' }, outcome: 'self_approval' },
        ],
      },
      { code: 'forbidden' },
    ]);
  }, 60_000);
});
