/** `twofold break-glass` and `twofold bootstrap` beside a running service, as an operator calls them. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { TestService } from './service.ts';

const command = join(import.meta.dirname, '../../scripts/twofold');
let service: TestService;
let pinFile: string;
beforeAll(async () => {
  service = await TestService.start();
  pinFile = join(service.dataDir, 'hsm', 'user.pin');
}, 90_000);
afterAll(() => service.destroy());

function twofold(...argv: string[]) {
  const run = spawnSync(command, [...argv, '--data', service.dataDir], {
    encoding: 'utf8',
    env: { ...COMMAND_ENVIRONMENT },
  });
  return { status: run.status, out: run.stdout, err: run.stderr };
}
const ask = async (token: string, method: string, path: string, body?: unknown) => {
  const answer = await fetch(service.url + path, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: answer.status, json: (await answer.json()) as Record<string, unknown> };
};
const REASON = ['--reason', 'the policies lock us out'];

describe('twofold break-glass', () => {
  it('makes a token that the running service takes, and leaves its traces', async () => {
    const { status, out, err } = twofold('break-glass', '--pin-file', pinFile, ...REASON);
    expect([status, err]).toEqual([0, '']);
    const token = out.trim();
    expect(token).toMatch(/^twofold-break-glass\.[\w-]{43}$/);
    const me = await ask(token, 'GET', '/v1/whoami');
    expect(me.json).toMatchObject({ method: 'break-glass' });
    const entries = await ask(token, 'GET', '/v1/audit/entries?operation=break-glass.open');
    expect(entries.json['items']).toMatchObject([
      { outcome: 'ok', actor: { method: 'system' }, detail: { reason: REASON[1] } },
    ]);
    const type = 'kms.twofold.access.break-glass-opened';
    const events = await ask(token, 'GET', `/v1/admin/events?type=${type}`);
    expect(events.json['items']).toMatchObject([{ type, data: { reason: REASON[1] } }]);
    const checks = async () =>
      (await ask(token, 'GET', '/readyz')).json['checks'] as { name: string; state: string }[];
    const access = { name: 'access', ready: true, state: 'break-glass' };
    expect(await checks()).toContainEqual(access);
    const made = await ask(token, 'POST', '/v1/admin/keys', { name: 'k', suite: 'A256GCM' });
    expect(made.json['code']).toBe('forbidden');
    expect(service.log).not.toContain(token);
  }, 60_000);

  it('offers a PIN that is wrong once, and makes nothing', async () => {
    const wrong = join(service.dataDir, 'wrong.pin');
    writeFileSync(wrong, '00000000000000000000000000000000', { mode: 0o600 });
    for (let turn = 0; turn < 2; turn += 1) {
      const { status, out, err } = twofold('break-glass', '--pin-file', wrong, ...REASON);
      expect([status, out]).toEqual([1, '']);
      expect(err).toContain('(hsm_unavailable)');
    }
    const listed = await service.request('GET', '/v1/admin/local-tokens');
    expect(listed.json['items']).toHaveLength(1);
    // The right one is taken as before.
    expect(twofold('break-glass', '--pin-file', pinFile, ...REASON).status).toBe(0);
  }, 60_000);

  it.each([
    ['no PIN', []],
    ['a namespace that is not there', ['--namespace', 'nowhere']],
    ['an argument too many', ['now']],
  ])(
    'refuses %s',
    (name, argv) => {
      const pin = name === 'no PIN' ? [] : ['--pin-file', pinFile];
      const { status, out } = twofold('break-glass', ...pin, ...REASON, ...argv);
      expect([status, out]).toEqual([1, '']);
    },
    60_000,
  );
});

describe('twofold bootstrap', () => {
  it('is refused where policies are stored', () => {
    const { status, out } = twofold('bootstrap', '--pin-file', pinFile, ...REASON);
    expect([status, out]).toEqual([1, '']);
  }, 60_000);

  it('opens an installation in which nobody may do anything, once', async () => {
    await service.destroy();
    const environment = { TWOFOLD_ACCESS_INITIAL_POLICIES: 'none' };
    service = await TestService.start({ first: true, environment });
    const asAdmin = () => service.request('GET', '/v1/keys');
    expect((await asAdmin()).json.code).toBe('forbidden');
    const pin = join(service.dataDir, 'hsm', 'user.pin');
    const { status, out, err } = twofold('bootstrap', '--pin-file', pin, ...REASON);
    expect([status, err]).toEqual([0, '']);
    const token = out.trim();
    expect(token).toMatch(/^twofold-bootstrap\.[\w-]{43}$/);
    expect((await ask(token, 'GET', '/v1/keys')).json['code']).toBe('forbidden');
    const template = { name: 'admin', principal: { role: 'admin' } };
    const path = '/v1/admin/policies/admins';
    expect((await ask(token, 'PUT', path, { template })).status).toBe(200);
    expect((await asAdmin()).status).toBe(200);
    const again = await ask(token, 'PUT', '/v1/admin/policies/more', { template });
    expect([again.status, again.json['code']]).toEqual([401, 'token_invalid']);
    expect(twofold('bootstrap', '--pin-file', pin, ...REASON).status).toBe(1);
  }, 120_000);
});
