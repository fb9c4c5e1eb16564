/** Walk-throughs of the README, run as they stand by a shell: two teams, and a log that somebody edits. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { TestService } from './service.ts';

const root = join(import.meta.dirname, '../..');
const TITLE = 'Two teams, one auditor, a destruction by two';
const LOG_TITLE = 'An audit log that proves itself';
const MARK = '=== end of a command ===';
let service: TestService;
beforeAll(async () => {
  service = await TestService.start();
}, 90_000);
afterAll(() => service.destroy());

const sectionOf = (title: string): string =>
  readFileSync(join(root, 'README.md'), 'utf8')
    .split(/^## /mu)
    .find((text) => text.startsWith(`${title}\n`)) ?? '';

/** The commands of the section. */
const commands = (): readonly string[] =>
  [...sectionOf(TITLE).matchAll(/^\$ (.*)$/gmu)].map(([, command = '']) => command);

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

describe(`the README on: ${LOG_TITLE}`, () => {
  const [, block = ''] = /```\n(\$[\s\S]*?)```/u.exec(sectionOf(LOG_TITLE)) ?? [];
  /** Each command, with the lines that it goes on in, and what the README says it prints. */
  const steps = block
    .split(/^\$ /mu)
    .slice(1)
    .map((text) => {
      const [, command = '', printed = ''] = /^((?:.*\\\n)*.*\n)([\s\S]*)$/u.exec(text) ?? [];
      return { command, printed };
    });
  /** Counts and ids are those of the day. */
  const masked = (text: string): string =>
    text
      .replace(/[0-9a-f-]{36}/gu, 'UUID')
      .replace(/\d+/gu, 'N')
      .trim();
  /** Once the log has it. */
  async function indexOf(id: string): Promise<string> {
    for (;;) {
      const proof = await service.request('GET', `/v1/audit/entries/${id}/proof`);
      const [, index] = /^index (\d+)$/mu.exec(proof.bytes.toString('utf8')) ?? [];
      if (index !== undefined) return index;
      await sleep(100);
    }
  }
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'twofold-walk-'));
    symlinkSync(service.dataDir, join(folder, '.twofold'));
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  it('is what happens: an edit by psql is found, and the entry named', async () => {
    expect(spawnSync('psql', ['--version']).status).toBe(0);
    // The one row that the walk-through edits, as the tour before it has made it.
    const made = await service.request('POST', '/v1/admin/keys', {
      name: 'walk',
      suite: 'A256GCM',
    });
    const index = await indexOf(made.headers.get('twofold-audit-id') ?? '');
    const script = steps
      .map(({ command }) => `${command}echo '${MARK}'`)
      .join('\n')
      .replaceAll('npx twofold audit verify', `${join(root, 'scripts/twofold')} audit verify`)
      .replaceAll(
        /npx twofold audit (keys|export)/gu,
        `${join(root, 'scripts/twofold')} audit $1 --url ${service.url}`,
      );
    const { stdout } = await promisify(execFile)('/bin/sh', ['-uc', script], {
      cwd: folder,
      env: { ...COMMAND_ENVIRONMENT },
    });
    const printed = stdout.split(`${MARK}\n`).slice(0, -1);
    expect(printed.map(masked)).toEqual(steps.map((step) => masked(step.printed)));
    expect(printed.at(-1)).toContain(`NOT VERIFIED: the first bad index is ${index}\n`);
  }, 60_000);
});

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
