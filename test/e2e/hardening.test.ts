/** What a start refuses and a running service gives away: nothing (promise P1, `SECURITY.md`). */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { killAll, leftOf, ofProcess } from './processes.ts';
import { TestService } from './service.ts';

const root = join(import.meta.dirname, '../..');
const environment = { ...COMMAND_ENVIRONMENT };
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-hardening-'));
});

afterAll(async () => {
  await killAll(folder);
  rmSync(folder, { recursive: true, force: true });
});

/** `<protocol> <local address>` of every socket of a process that listens. */
function listening(pid: number): string[] {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).map((name) => {
      try {
        return /^socket:\[(\d+)\]$/u.exec(readlinkSync(`/proc/${pid}/fd/${name}`))?.[1];
      } catch {
        return undefined;
      }
    }),
  );
  return ['tcp', 'tcp6'].flatMap((protocol) =>
    readFileSync(`/proc/${pid}/net/${protocol}`, 'latin1')
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/u))
      .filter((fields) => fields[3] === '0A' && inodes.has(fields[9]))
      .map((fields) => `${protocol} ${fields[1] ?? ''}`),
  );
}

describe('a start', () => {
  const REFUSED = [
    '--inspect=127.0.0.1:0',
    '--inspect-port=0',
    '--heapsnapshot-signal=SIGUSR2',
    '--heapsnapshot-near-heap-limit=1',
    '--heap-prof',
    '--cpu-prof',
    '--report-on-signal',
    '--report-uncaught-exception',
    '--abort-on-uncaught-exception',
  ];

  const start = (flags: readonly string[], dataDir: string, variables: object = {}) =>
    spawnSync(
      process.execPath,
      [...flags, join(root, 'src/main.ts'), 'serve', '--dev', '--data', dataDir],
      { env: { ...environment, ...variables }, encoding: 'utf8', cwd: folder },
    );

  it.each(REFUSED)('with %s is refused before anything is made', (flag) => {
    const dataDir = join(folder, 'refused');
    const { status, stderr } = start(['--disable-sigusr1', flag], dataDir);
    expect(stderr).toContain('(invalid_value)');
    expect({ status, made: existsSync(dataDir) }).toEqual({ status: 1, made: false });
  });

  it.each([
    '--inspect=127.0.0.1:0',
    '"--ins\\pect=127.0.0.1:0"',
    '--ins"pe"ct=127.0.0.1:0',
    '--heapsnapshot_signal=SIGUSR2',
  ])(
    'with %s in NODE_OPTIONS is refused, by the launcher too',
    (flag) => {
      const dataDir = join(folder, 'refused');
      const variables = { NODE_OPTIONS: flag };
      const { status, stderr } = start(['--disable-sigusr1'], dataDir, variables);
      expect(stderr).toContain('(invalid_value)');
      expect({ status, made: existsSync(dataDir) }).toEqual({ status: 1, made: false });
      const launched = spawnSync(join(root, 'scripts/launch'), ['serve', '--dev'], {
        env: { ...environment, ...variables, TWOFOLD_DATA: dataDir },
        encoding: 'utf8',
      });
      expect({ status: launched.status, made: existsSync(dataDir) }).toEqual({
        status: 2,
        made: false,
      });
    },
    60_000,
  );

  it.each<[number, ...string[]]>([
    [2, 'doctor', 'secrets'],
    [1, 'hsm', 'make-root'],
    [1, 'token', '--role', 'user'],
  ])(
    'ends with %s for %s %s under the inspector, before anything is read',
    (failed, ...command) => {
      const dataDir = join(folder, 'refused');
      const program = [join(root, 'src/main.ts'), ...command, '--data', dataDir];
      for (const flags of [['--disable-sigusr1', '--inspect=127.0.0.1:0'], []]) {
        const { status, stderr } = spawnSync(process.execPath, [...flags, ...program], {
          env: environment,
          encoding: 'utf8',
          cwd: folder,
        });
        expect(stderr).toContain('scripts/launch. (invalid_value)');
        expect({ status, made: existsSync(dataDir) }).toEqual({ status: failed, made: false });
      }
    },
    60_000,
  );

  it('without --disable-sigusr1, or with a core limit, is refused', () => {
    const dataDir = join(folder, 'refused');
    expect(start([], dataDir).stderr).toContain('--disable-sigusr1');
    const [soft = '0'] = coreLimits('self');
    if (soft !== '0') {
      expect(start(['--disable-sigusr1'], dataDir).stderr).toContain('core file limit');
    }
    expect(existsSync(dataDir)).toBe(false);
  }, 60_000);

  it('says that a port is taken, leaves nothing running, and the next one is fine', async () => {
    const dataDir = mkdtempSync(join(folder, 'port-'));
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const port = String((holder.address() as AddressInfo).port);
    const first = await TestService.start({
      dataDir,
      environment: { TWOFOLD_PORT: port },
      ready: false,
    });
    if (first.running) await once(first.child, 'exit');
    expect(first.child.exitCode).toBe(1);
    expect(first.output).toMatch(new RegExp(`127.0.0.1:${port} .*\\(conflict\\)`, 'u'));
    expect(first.output).not.toContain('    at ');
    expect(await leftOf(dataDir)).toEqual([]);
    holder.close();
    const second = await TestService.start({ dataDir });
    expect((await second.request('GET', '/readyz')).status).toBe(200);
    expect(await second.stop()).toBe(0);
    expect(await leftOf(dataDir)).toEqual([]);
  }, 180_000);
});

/** Soft and hard limit of a core file. */
const coreLimits = (pid: number | 'self'): string[] => {
  const limits =
    pid === 'self' ? readFileSync('/proc/self/limits', 'latin1') : ofProcess(pid, 'limits');
  return (/^Max core file size +(\S+) +(\S+)/mu.exec(limits) ?? []).slice(1, 3);
};

describe('a running service', () => {
  let service: TestService;
  let cwd: string;

  beforeAll(async () => {
    cwd = mkdtempSync(join(folder, 'cwd-'));
    service = await TestService.start({ dataDir: mkdtempSync(join(folder, 'data-')), cwd });
  }, 120_000);

  afterAll(async () => {
    await service.destroy();
  });

  it('opens no listener on SIGUSR1', async () => {
    const before = listening(service.pid);
    expect(before).toHaveLength(2);
    service.child.kill('SIGUSR1');
    await sleep(1_000);
    expect(listening(service.pid)).toEqual(before);
    expect((await service.request('GET', '/healthz')).status).toBe(200);
  });

  it('keeps everything in its folder from others', () => {
    const open: string[] = [];
    for (const name of [
      '',
      ...readdirSync(service.dataDir, { recursive: true, encoding: 'utf8' }),
    ]) {
      const mode = lstatSync(join(service.dataDir, name), { throwIfNoEntry: false })?.mode ?? 0;
      if ((mode & 0o077) !== 0) open.push(`${name} ${(mode & 0o777).toString(8)}`);
    }
    expect(open).toEqual([]);
  });

  it('has its data folder alone', async () => {
    const second = await TestService.start({ dataDir: service.dataDir, ready: false });
    if (second.running) await once(second.child, 'exit');
    expect(second.child.exitCode).toBe(1);
    expect(second.output).toContain('(conflict)');
    expect(second.output).toContain(String(service.pid));
    expect((await service.request('GET', '/readyz')).status).toBe(200);
  }, 60_000);

  it('leaves no core on SIGABRT', async () => {
    expect(coreLimits(service.pid)).toEqual(['0', '0']);
    const ended = once(service.child, 'exit');
    service.child.kill('SIGABRT');
    expect(await ended).toEqual([null, 'SIGABRT']);
    expect(readdirSync(cwd)).toEqual([]);
  });
});

describe('the launcher', () => {
  it('sets core limit and flags', async () => {
    const dataDir = mkdtempSync(join(folder, 'launched-'));
    const child = spawn(join(root, 'scripts/launch'), ['serve', '--dev'], {
      env: { ...environment, TWOFOLD_DATA: dataDir, TWOFOLD_PORT: '0', TWOFOLD_METRICS_PORT: '0' },
      stdio: 'ignore',
    });
    const ended = once(child, 'exit');
    const pid = child.pid ?? 0;
    while (!ofProcess(pid, 'cmdline').includes('src/main.ts') && child.exitCode === null) {
      await sleep(20);
    }
    expect(coreLimits(pid)).toEqual(['0', '0']);
    expect(ofProcess(pid, 'cmdline').split('\0')).toContain('--disable-sigusr1');
    child.kill('SIGKILL');
    await ended;
    await killAll(dataDir);
  }, 60_000);
});
