/** Ctrl-C and SIGTERM while a start is under way, and a terminal that is gone. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { seeded } from '../store/embedded-harness.ts';
import { testSeed } from './kill-driver.ts';
import { killAll, leftOf } from './processes.ts';
import { TestService } from './service.ts';

const root = join(import.meta.dirname, '../..');
const ROUNDS = 6;
/** A first start takes some 2 s on an idle machine. */
const LATEST_MS = 2_400;
const END_MS = 20_000;

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-interrupted-'));
});

afterAll(async () => {
  await killAll(folder);
  rmSync(folder, { recursive: true, force: true });
});

/** How the process ended by itself; null when it did not within the bound. */
async function endOf(service: TestService): Promise<readonly unknown[] | null> {
  if (!service.running) return [service.child.exitCode, service.child.signalCode];
  const timeout = new AbortController();
  const late = sleep(END_MS, null, { signal: timeout.signal }).catch(() => null);
  const ended = await Promise.race([once(service.child, 'exit'), late]);
  timeout.abort();
  return ended;
}

describe('a signal during a first start', () => {
  const random = seeded(testSeed());
  const moments = Array.from({ length: ROUNDS }, (_, round) => ({
    signal: round % 2 === 0 ? ('SIGINT' as const) : ('SIGTERM' as const),
    after: Math.round(((round + random()) / ROUNDS) * LATEST_MS),
  }));

  it.each(moments)(
    '$signal after $after ms ends it by itself, and the next start completes it',
    async ({ signal, after }) => {
      const dataDir = mkdtempSync(join(folder, 'first-'));
      const first = await TestService.start({ dataDir, ready: false, detached: true });
      await sleep(after);
      process.kill(-first.pid, signal);
      // Before the handlers stand there is nothing to stop, and the signal ends the process.
      expect([
        [0, null],
        [null, signal],
      ]).toContainEqual(await endOf(first));
      expect(await leftOf(dataDir, 0)).toEqual([]);
      const second = await TestService.start({ dataDir });
      const made = { name: 'key', suite: 'MLKEM768-P256' };
      expect((await second.request('POST', '/v1/admin/keys', made)).status).toBe(201);
      await second.destroy();
    },
    120_000,
  );
});

describe('signals to a running service', () => {
  it('the first makes it not ready while it still serves, a later one cuts that wait short', async () => {
    const environment = { TWOFOLD_STOP_WAIT_MS: '60000' };
    const service = await TestService.start({ environment, detached: true });
    try {
      process.kill(service.pid, 'SIGTERM');
      await service.untilOutput(/^stopping$/mu);
      const ready = await service.request('GET', '/readyz', undefined, { role: null });
      expect([ready.status, ready.json['ready']]).toEqual([503, false]);
      const made = { name: 'while-waiting', suite: 'A256GCM' };
      expect((await service.request('POST', '/v1/admin/keys', made)).status).toBe(201);
      // What follows at once is npm's copy of the same Ctrl-C.
      process.kill(service.pid, 'SIGTERM');
      await sleep(1_200);
      expect((await service.request('GET', '/v1/whoami')).status).toBe(200);
      process.kill(service.pid, 'SIGTERM');
      expect(await endOf(service)).toEqual([0, null]);
      expect(await leftOf(service.dataDir, 0)).toEqual([]);
    } finally {
      await killAll(service.dataDir);
      await service.destroy();
    }
  }, 120_000);

  it('SIGHUP stops it in order when nobody reads its output any more', async () => {
    const dataDir = mkdtempSync(join(folder, 'closed-pipe-'));
    const child = spawn('/bin/sh', [join(root, 'scripts/launch'), 'serve', '--dev'], {
      env: {
        ...COMMAND_ENVIRONMENT,
        TWOFOLD_DATA: dataDir,
        TWOFOLD_PORT: '0',
        TWOFOLD_METRICS_PORT: '0',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    await once(child.stdout, 'data');
    child.stdout.destroy();
    child.stderr.destroy();
    const ended = once(child, 'exit');
    child.kill('SIGHUP');
    expect(await ended).toEqual([0, null]);
    expect(await leftOf(dataDir, 0)).toEqual([]);
  }, 120_000);
});
