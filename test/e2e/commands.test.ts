/** The commands beside `serve`, as a shell calls them. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { DevelopmentIssuer } from '../../src/access/development-issuer.ts';

const command = join(import.meta.dirname, '../../scripts/twofold');
let dataDir: string;

beforeAll(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'twofold-commands-'));
  await DevelopmentIssuer.open({ folder: dataDir, create: true });
});

afterAll(() => rmSync(dataDir, { recursive: true, force: true }));

const place = () => ({
  cwd: dataDir,
  env: { ...COMMAND_ENVIRONMENT, HOME: dataDir, TWOFOLD_DATA: dataDir },
});

function twofold(...argv: string[]) {
  const run = spawnSync(command, argv, { ...place(), encoding: 'utf8' });
  return { status: run.status, out: run.stdout, err: run.stderr };
}

const claimsOf = (token: string) =>
  JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8')) as {
    roles: string[];
    exp: number;
    iat: number;
  };

describe('twofold token', () => {
  it('prints a token of the roles and the lifetime that were asked for', () => {
    const { status, out } = twofold('token', '--role', 'user', '--role', 'auditor', '--ttl', '10m');
    expect(status).toBe(0);
    const { roles, exp, iat } = claimsOf(out.trim());
    expect(roles).toEqual(['user', 'auditor']);
    expect(exp - iat).toBe(600);
  });

  it('prints a header line for curl -H @file', () => {
    const { out } = twofold('token', '--role=user', '--header');
    expect(out).toMatch(/^Authorization: Bearer eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+\n$/);
  });

  it.each([
    ['no role', []],
    ['an unknown role', ['--role', 'root']],
    ['too long a life', ['--role', 'user', '--ttl', '2d']],
    ['a flag that is none', ['--rol', 'user']],
    ['an argument too many', ['--role', 'user', 'now']],
  ])('refuses %s', (_name, argv) => {
    const { status, out, err } = twofold('token', ...argv);
    expect([status, out]).toEqual([1, '']);
    expect(err).toContain('(invalid_value)');
  });
});

describe('other commands', () => {
  it('conformance passes on SoftHSM and leaves nothing behind', () => {
    const { status, out } = twofold('conformance', '--no-speed');
    expect(out).toMatch(/^\d+ passed, 0 failed, 0 absent$/m);
    expect(status).toBe(0);
  }, 60_000);

  it('config check prints the configuration, or every problem', () => {
    const good = twofold('config', 'check', '--dev');
    expect(good.status).toBe(0);
    expect(JSON.parse(good.out)).toMatchObject({ mode: 'dev', dataDir });
    expect(good.err).toMatch(/^hash of the configuration: [0-9a-f]{64}$/m);
    const bad = twofold('config', 'check', '--mode', 'production');
    expect(bad.status).toBe(1);
    expect(bad.err.trim().split('\n').length).toBeGreaterThan(2);
  });

  it('an unknown command is a usage error', () => {
    expect(twofold('serv').status).toBe(2);
    expect(twofold().status).toBe(2);
    expect(twofold('version').out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('what a command prints', () => {
  it.each([
    ['a token', ['token', '--role', 'user']],
    ['many lines', ['config', 'check', '--dev']],
  ])('onto a full disk is a failure: %s', (_name, argv) => {
    const full = openSync('/dev/full', 'w');
    try {
      const stdio = ['ignore', full, 'pipe'] as const;
      const run = spawnSync(command, argv, { ...place(), encoding: 'utf8', stdio: [...stdio] });
      expect(run.status).toBe(1);
      expect(run.stderr).toContain('standard output could not be written: ENOSPC (storage_full)');
    } finally {
      closeSync(full);
    }
  });

  it('and nobody reads ends it as a shell expects, without a word', async () => {
    const stdio = ['ignore', 'pipe', 'pipe'] as const;
    const child = spawn(command, ['token', '--role', 'user'], { ...place(), stdio: [...stdio] });
    let err = '';
    child.stderr.on('data', (piece: Buffer) => (err += piece.toString('utf8')));
    child.stdout.destroy();
    expect([await once(child, 'close'), err]).toEqual([[141, null], '']);
  });
});
