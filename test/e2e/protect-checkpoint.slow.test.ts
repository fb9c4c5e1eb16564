/** `examples/protect-checkpoint` against a started service, as a shell calls it. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { createWriteStream, existsSync, mkdtempSync, readFileSync, readdirSync } from 'node:fs';
import { closeSync, copyFileSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { TestService } from './service.ts';

const command = join(import.meta.dirname, '../../examples/protect-checkpoint/protect-checkpoint');
const SIZE = 3 * 1_048_576 + 17;
/** Long enough to be interrupted midway. */
const LARGE = 400_000_000;

let service: TestService;
let folder: string;
let connection: string[];

const path = (name: string) => join(folder, name);
const environment = { ...COMMAND_ENVIRONMENT, HOME: tmpdir() };

function run(name: string, ...argv: string[]) {
  const flags = name === 'verify' ? [] : connection;
  const { status, stdout, stderr } = spawnSync(command, [name, ...argv, ...flags], {
    cwd: folder,
    env: environment,
  });
  return { status, out: stdout, err: stderr.toString('utf8') };
}

const start = (name: string, ...argv: string[]) => {
  const child = spawn(command, [name, ...argv, ...connection], {
    cwd: folder,
    env: environment,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let err = '';
  child.stderr.on('data', (piece: Buffer) => (err += piece.toString('utf8')));
  const ended = once(child, 'exit').then(([status]) => ({ status: status as number | null, err }));
  return { child, ended };
};

const temporaries = () => readdirSync(folder).filter((name) => name.endsWith('.partial'));

/** Resolves once the temporary file has some of its bytes, and says how many. */
async function untilMidway(): Promise<void> {
  for (;;) {
    const [name] = temporaries();
    const size =
      name === undefined ? 0 : (statSync(path(name), { throwIfNoEntry: false })?.size ?? 0);
    if (size > 20_000_000) return;
    await sleep(2);
  }
}

async function connect(): Promise<void> {
  const authorization = path('user.header');
  rmSync(authorization, { force: true });
  const line = `Authorization: Bearer ${await service.token('user')}\n`;
  writeFileSync(authorization, line, { mode: 0o600 });
  connection = ['--url', service.url, '--authorization', authorization];
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-protect-'));
  service = await TestService.start();
  await connect();
  for (const [name, suite] of [
    ['model', 'MLKEM768-P256'],
    ['backup', 'MLKEM1024-P384'],
    ['sign', 'MLDSA65-ECDSA-P256-SHA512'],
  ]) {
    await service.request('POST', '/v1/admin/keys', { name, suite });
  }
  expect(run('signer', 'sign', '--out', 'signer.json').status).toBe(0);
}, 120_000);
afterAll(async () => {
  await service.destroy();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

const PROBLEM = {
  type: 'urn:twofold:problem:forbidden',
  title: 'The principal may not do this.',
  status: 403,
  code: 'forbidden',
  requestId: '00000000-0000-4000-8000-000000000000',
};
const SEAL = ['--recipient', 'model', '--sign-with', 'sign'];
const SIGNER = ['--signer', 'signer.json'];

describe('a checkpoint', () => {
  const plaintext = randomBytes(SIZE);
  beforeAll(() => {
    writeFileSync(path('model.bin'), plaintext);
  });
  beforeEach(() => {
    for (const name of readdirSync(folder)) {
      if (/^(model\.bin\.|restored)/u.test(name)) rmSync(path(name));
    }
  });

  it('is sealed for several, verified offline, restored, and read in part', async () => {
    const context = ['--context', 'model=llama', '--context', 'stage=prod'];
    const sealed = run('seal', 'model.bin', ...SEAL, '--recipient', 'backup', ...context);
    expect([sealed.err, sealed.status]).toEqual(['', 0]);
    expect(readFileSync(path('model.bin.sealed')).includes(plaintext.subarray(0, 64))).toBe(false);

    const verified = run('verify', 'model.bin.sealed', ...SIGNER);
    expect([verified.err, verified.status]).toEqual(['', 0]);
    expect(verified.out.toString('utf8')).toContain('"model.bin", 3145745 bytes');

    const restored = run('restore', 'model.bin.sealed', ...SIGNER, '--out', 'restored.bin');
    expect([restored.err, restored.status]).toEqual(['', 0]);
    expect(readFileSync(path('restored.bin')).equals(plaintext)).toBe(true);
    expect(statSync(path('restored.bin')).mode & 0o777).toBe(0o600);

    const range = ['--offset', '1048570', '--length', '20'];
    const read = run('read', 'model.bin.sealed', ...SIGNER, ...range);
    expect(read.out).toEqual(plaintext.subarray(1_048_570, 1_048_590));

    const entries = await service.request('GET', '/v1/audit/entries?pageSize=20', undefined);
    const text = entries.bytes.toString('utf8');
    expect(text).toContain('"contextKeys":["model","stage"]');
  });

  it('under a context of control characters is opened again', () => {
    const context = ['--context', `a=${'\u0001'.repeat(4_000)}`];
    const both = ['--recipient', 'backup', ...context];
    expect(run('seal', 'model.bin', ...SEAL, ...both)).toMatchObject({ err: '', status: 0 });
    expect(run('rewrap', 'model.bin.sealed')).toMatchObject({ err: '', status: 0 });
    const restored = run('restore', 'model.bin.sealed', ...SIGNER, '--out', 'restored');
    expect(restored).toMatchObject({ err: '', status: 0 });
    expect(readFileSync(path('restored')).equals(plaintext)).toBe(true);
  });

  it('is opened by the recipient that is left, and after a rotation and a rewrap', async () => {
    expect(run('seal', 'model.bin', ...SEAL, '--recipient', 'backup').status).toBe(0);
    await service.request('POST', '/v1/admin/keys/model/rotate', {});
    const before = readFileSync(path('model.bin.sealed'));
    const rewrapped = run('rewrap', 'model.bin.sealed');
    expect(rewrapped.out.toString('utf8')).toContain('rewrapped 1 of 2 recipients');
    expect(readFileSync(path('model.bin.sealed')).equals(before)).toBe(false);
    const suspension = { reason: 'test' };
    await service.request('POST', '/v1/admin/keys/model/suspend', suspension);
    try {
      expect(run('restore', 'model.bin.sealed', ...SIGNER, '--out', 'restored.bin').status).toBe(0);
    } finally {
      await service.request('POST', '/v1/admin/keys/model/resume', suspension);
    }
    expect(readFileSync(path('restored.bin')).equals(plaintext)).toBe(true);
  });

  it('is refused when it exists already, and nothing is written over', () => {
    for (const name of ['model.bin.sealed', 'model.bin.sealed.manifest']) {
      writeFileSync(path(name), 'mine');
      const { status, err } = run('seal', 'model.bin', ...SEAL);
      expect([status, err]).toEqual([1, expect.stringContaining('(target_exists)')]);
      expect(readFileSync(path(name), 'utf8')).toBe('mine');
      rmSync(path(name));
    }
    expect(run('seal', 'model.bin', ...SEAL).status).toBe(0);
    writeFileSync(path('restored.bin'), 'mine');
    const { status, err } = run('restore', 'model.bin.sealed', ...SIGNER, '--out', 'restored.bin');
    expect([status, err]).toEqual([1, expect.stringContaining('(target_exists)')]);
    expect(readFileSync(path('restored.bin'), 'utf8')).toBe('mine');
  });

  it('that was changed is refused, and no file appears', () => {
    expect(run('seal', 'model.bin', ...SEAL).status).toBe(0);
    const bytes = readFileSync(path('model.bin.sealed'));
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
    writeFileSync(path('model.bin.sealed'), bytes);
    const restored = run('restore', 'model.bin.sealed', ...SIGNER, '--out', 'restored.bin');
    expect([restored.status, restored.err]).toEqual([
      1,
      expect.stringContaining('(content_mismatch)'),
    ]);
    expect(run('verify', 'model.bin.sealed', ...SIGNER).err).toContain('(content_mismatch)');
    expect([existsSync(path('restored.bin')), temporaries()]).toEqual([false, []]);
  });

  it('of a signer that is not pinned, or whose key no caller may use, is refused', async () => {
    expect(run('seal', 'model.bin', ...SEAL).status).toBe(0);
    const other = { name: 'other', suite: 'MLDSA87-ECDSA-P384-SHA512' };
    await service.request('POST', '/v1/admin/keys', other);
    expect(run('signer', 'other', '--out', 'restored.json').status).toBe(0);
    const pinned = ['--signer', 'restored.json'];
    expect(run('verify', 'model.bin.sealed', ...pinned).err).toContain('(unknown_signer)');
    const both = run('verify', 'model.bin.sealed', ...pinned, ...SIGNER);
    expect(both.status).toBe(0);
    const unknown = run(
      'seal',
      'model.bin',
      '--recipient',
      'nobody',
      '--sign-with',
      'sign',
      '--out',
      'restored',
    );
    expect([unknown.status, unknown.err]).toEqual([1, expect.stringContaining('(key_not_found)')]);
    expect([existsSync(path('restored')), temporaries()]).toEqual([false, []]);
  });

  it.each([
    [['seal', 'model.bin', '--sign-with', 'sign'], 1],
    [['seal', ...SEAL], 1],
    [['seal', 'model.bin', ...SEAL, '--context', 'novalue'], 1],
    [['seal', '.', ...SEAL], 1],
    [['seal', 'missing', ...SEAL], 1],
    [['verify', 'model.bin', ...SIGNER], 1],
    [['open', 'model.bin'], 2],
    [['toString', 'model.bin'], 2],
  ])('is not touched by %j', (argv, status) => {
    const [name = '', ...rest] = argv;
    expect(run(name, ...rest).status).toBe(status);
    expect(temporaries()).toEqual([]);
  });
});

describe('a large checkpoint', () => {
  beforeAll(async () => {
    const file = createWriteStream(path('large.bin'));
    const piece = randomBytes(10_000_000);
    for (let size = 0; size < LARGE; size += piece.length) {
      if (!file.write(piece)) await once(file, 'drain');
    }
    file.end();
    await once(file, 'close');
  }, 120_000);
  const NOTHING = { sealed: false, manifest: false, temporaries: [] as string[] };
  const left = () => ({
    sealed: existsSync(path('large.bin.sealed')),
    manifest: existsSync(path('large.bin.sealed.manifest')),
    temporaries: temporaries(),
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)(
    'whose sealing gets %s midway leaves nothing',
    async (signal, code) => {
      const { child, ended } = start('seal', 'large.bin', ...SEAL);
      await untilMidway();
      child.kill(signal);
      const { status, err } = await ended;
      expect([status, err]).toEqual([code, expect.stringContaining('(interrupted)')]);
      expect(left()).toEqual(NOTHING);
    },
    60_000,
  );

  it('that changes while it is sealed is refused', async () => {
    copyFileSync(path('large.bin'), path('changing.bin'));
    const { ended } = start('seal', 'changing.bin', ...SEAL, '--out', 'large.bin.sealed');
    await untilMidway();
    writeFileSync(path('changing.bin'), 'x', { flag: 'a' });
    const { status, err } = await ended;
    expect([status, err]).toEqual([1, expect.stringContaining('(source_changed)')]);
    expect(left()).toEqual(NOTHING);
    rmSync(path('changing.bin'));
  }, 60_000);

  it('whose restoring is interrupted midway leaves nothing', async () => {
    expect(run('seal', 'large.bin', ...SEAL).status).toBe(0);
    const { child, ended } = start(
      'restore',
      'large.bin.sealed',
      ...SIGNER,
      '--out',
      'restored-large',
    );
    await untilMidway();
    child.kill('SIGINT');
    const { status, err } = await ended;
    expect([status, err]).toEqual([130, expect.stringContaining('(interrupted)')]);
    expect([existsSync(path('restored-large')), temporaries()]).toEqual([false, []]);
    rmSync(path('large.bin.sealed'));
    rmSync(path('large.bin.sealed.manifest'));
  }, 120_000);

  it('whose sealing gets a signal twice at once, as of `timeout` and `npm run`, leaves nothing', async () => {
    const { child, ended } = start('seal', 'large.bin', ...SEAL);
    await untilMidway();
    child.kill('SIGTERM');
    await sleep(1);
    child.kill('SIGTERM');
    const { status, err } = await ended;
    expect([status, err]).toEqual([143, expect.stringContaining('(interrupted)')]);
    expect(left()).toEqual(NOTHING);
  }, 60_000);

  it('whose service is killed midway leaves nothing, and is sealed when it is back', async () => {
    const { ended } = start('seal', 'large.bin', ...SEAL);
    await untilMidway();
    await service.kill();
    const { status, err } = await ended;
    expect([status, err]).toEqual([1, expect.stringContaining('(service_unreachable)')]);
    expect(left()).toEqual(NOTHING);
    expect(run('restore', 'large.bin', ...SIGNER, '--out', 'restored-large').status).toBe(1);

    service = await TestService.start({ dataDir: service.dataDir });
    await connect();
    expect(run('seal', 'large.bin', ...SEAL).status).toBe(0);
    expect(left()).toEqual({ sealed: true, manifest: true, temporaries: [] });
  }, 180_000);
});

describe('where there is no room, or no reader', () => {
  /** A limit on files stands for a full disk: 1 KiB. */
  const limited = (...argv: string[]) =>
    spawnSync('bash', ['-c', 'ulimit -f 1; exec "$@"', 'bash', command, ...argv, ...connection], {
      cwd: folder,
      env: { ...environment, NODE_COMPILE_CACHE: '' },
      encoding: 'utf8',
    });

  it('a signer is pinned whole or not at all', () => {
    const refused = limited('signer', 'sign', '--out', 'pinned.json');
    expect([refused.status, refused.stderr]).toEqual([1, expect.stringContaining('(file_failed)')]);
    expect(existsSync(path('pinned.json'))).toBe(false);
    expect(run('signer', 'sign', '--out', 'pinned.json').status).toBe(0);
    expect(readFileSync(path('pinned.json'))).toEqual(readFileSync(path('signer.json')));
  });

  it('a range is no success that did not reach its file or pipe', async () => {
    expect(run('seal', 'model.bin', ...SEAL).status).toBe(0);
    const range = ['--offset', '0', '--length', String(SIZE)];
    const read = ['read', 'model.bin.sealed', ...SIGNER, ...range, ...connection];
    const full = openSync('/dev/full', 'w');
    const place = { cwd: folder, env: environment };
    const lost = spawnSync(command, read, {
      ...place,
      encoding: 'utf8',
      stdio: ['ignore', full, 'pipe'],
    });
    closeSync(full);
    expect([lost.status, lost.stderr]).toEqual([1, expect.stringContaining('(storage_full)')]);
    const child = spawn(command, read, { ...place, stdio: ['ignore', 'pipe', 'pipe'] });
    let err = '';
    child.stderr.on('data', (piece: Buffer) => (err += piece.toString('utf8')));
    child.stdout.once('data', () => child.stdout.destroy());
    expect([await once(child, 'close'), err]).toEqual([[141, null], '']);
  });
});

describe('what comes from elsewhere', () => {
  it('is not waited for: a pipe is no signer and no token file', () => {
    expect(spawnSync('mkfifo', [path('pipe')]).status).toBe(0);
    writeFileSync(path('any.sealed'), 'x');
    const verify = run('verify', 'any.sealed', '--signer', 'pipe');
    expect([verify.status, verify.err]).toEqual([1, expect.stringContaining('(invalid_signer)')]);
    const authorization = ['--url', service.url, '--authorization', 'pipe'];
    const fetched = spawnSync(command, ['signer', 'sign', '--out', 'no.json', ...authorization], {
      cwd: folder,
      env: environment,
      timeout: 20_000,
    });
    expect(fetched.status).toBe(1);
    expect(existsSync(path('no.json'))).toBe(false);
  });

  it('is asked in the clear on this host only', () => {
    const elsewhere = ['--url', 'http://192.0.2.1:8370', ...connection.slice(2)];
    const asked = spawnSync(command, ['signer', 'sign', '--out', 'no.json', ...elsewhere], {
      cwd: folder,
      env: environment,
      timeout: 20_000,
    });
    const err = asked.stderr.toString('utf8');
    expect([asked.status, err]).toEqual([1, expect.stringContaining('(invalid_value)')]);
  });

  it('is shown as text: no escape of a service reaches the terminal', async () => {
    const detail = 'no\u001b[2J\u009b1A\r\nverified "model.bin"\u202e';
    const body = JSON.stringify({ ...PROBLEM, detail });
    const liar = createServer((request, response) => {
      request.resume().on('end', () => {
        const type = 'application/problem+json';
        response.writeHead(403, { 'Content-Type': type }).end(body);
      });
    });
    await new Promise<void>((resolve) => liar.listen(0, '127.0.0.1', resolve));
    const { port } = liar.address() as AddressInfo;
    const flags = ['--url', `http://127.0.0.1:${port}`, ...connection.slice(2)];
    const child = spawn(command, ['signer', 'sign', '--out', 'no.json', ...flags], {
      cwd: folder,
      env: environment,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let err = '';
    child.stderr.on('data', (piece: Buffer) => (err += piece.toString('utf8')));
    const [status] = (await once(child, 'close')) as [number];
    liar.close();
    expect(status).toBe(1);
    expect(err.trimEnd()).toMatch(/^[\p{L}\p{N}\p{P}\p{S}\p{Zs}]+$/u);
    expect(err).toContain('(forbidden)');
  });
});
