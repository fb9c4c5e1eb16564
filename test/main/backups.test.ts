/** The schedule of backups, over parts that fail as the real ones do. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { AnotherBackup } from '../../src/backup/ports.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { TwofoldError } from '../../src/errors.ts';
import { openBackups } from '../../src/main/backups.ts';
import type { Backups, BackupsParts } from '../../src/main/backups.ts';
import { Admission } from '../../src/http/admission.ts';
import { registerFigures } from '../../src/main/figures.ts';
import type { FiguresOf } from '../../src/main/figures.ts';
import { Unwinding } from '../../src/main/unwinding.ts';
import { encodePublicKey, newSeed, recoveryKeyOf } from '../../src/recovery/key.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';

const LOOK_MS = 15_000;

let folder: string;
let unwinding: Unwinding;
let noted: [string, unknown][];
let failure: Error | null;
let newest: Date | null;
/** How often it was looked for backups whose process was killed. */
let givenUp: number;

beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'performance'] });
  folder = mkdtempSync(join(tmpdir(), 'twofold-schedule-'));
  const { publicKey } = recoveryKeyOf(nativeEngine, newSeed());
  writeFileSync(join(folder, 'recovery.pem'), encodePublicKey(publicKey));
  unwinding = new Unwinding(() => undefined);
  noted = [];
  failure = null;
  givenUp = 0;
  newest = new Date(Date.now() - 3_600_000);
});
afterEach(async () => {
  await unwinding.unwind();
  jest.useRealTimers();
  rmSync(folder, { recursive: true, force: true });
});

function schedule(configured = true): Backups {
  const silent = () => undefined;
  const parts = {
    config: {
      backup: {
        folder: configured ? folder : undefined,
        recoveryKeyFile: join(folder, 'recovery.pem'),
        ...{ every: 'PT1M', maxAge: 'P2D', entries: 'tail' },
      },
    },
    store: {
      backups: {
        newest: () => Promise.resolve(newest === null ? null : { createdAt: newest }),
        unsettled: () => Promise.resolve([]),
        giveUpKilled: () => {
          givenUp += 1;
          return Promise.resolve(0);
        },
      },
      openSnapshot: () => Promise.reject(failure ?? new Error('nothing is to be taken')),
    },
    root: { auditMac: silent, mac: silent, first: 1 },
    engine: nativeEngine,
    events: { note: (name: string, detail: unknown) => noted.push([name, detail]) },
    log: { info: silent, error: silent, warn: silent },
    first: true,
  };
  return openBackups(parts as unknown as BackupsParts, unwinding);
}

const looks = async (times: number) => {
  for (let look = 0; look < times; look += 1) await jest.advanceTimersByTimeAsync(LOOK_MS);
};

/** The lines of the metrics that are about backups, as they are served. */
async function metricsOf(backups: Backups | null): Promise<Record<string, number>> {
  const metrics = createMetrics({ version: '0.0.0-test', routes: [] });
  const parts = {
    hsm: { counters: () => ({ queued: 0, objects: 0 }) },
    admission: new Admission(),
    ...{ authenticator: { cached: 0 }, access: { cached: 0 } },
    readiness: () => ({ checks: [] }),
    ...{
      audit: () => null,
      keyring: () => null,
      log: () => null,
      standby: () => null,
      sinks: () => [],
    },
    lease: { mode: () => 'off' },
    reloads: { expiries: () => ({}), refusals: () => ({}) },
    backups: () => backups,
  };
  registerFigures(metrics, parts as unknown as FiguresOf);
  const { body } = await metrics.renderMetrics();
  metrics.close();
  const lines = body.matchAll(/^(twofold_backup_\S+) (\S+)$/gmu);
  return Object.fromEntries([...lines].map(([, name = '', value]) => [name, Number(value)]));
}

describe('the metrics of backups', () => {
  const AGE = 'twofold_backup_age_seconds{kind="newest"}';
  const FAILURES = 'twofold_backup_failures{kind="all"}';

  it('hold the age of the newest one and those that failed', async () => {
    const at = Date.now();
    newest = new Date(at - 30_000);
    failure = new TwofoldError('storage_full');
    const backups = schedule();
    await looks(1);
    expect(await metricsOf(backups)).toEqual({ [AGE]: 45, [FAILURES]: 0 });
    // From the next look on one is due, and cannot be taken: it grows older.
    await looks(2);
    expect(await metricsOf(backups)).toEqual({ [AGE]: 75, [FAILURES]: 2 });
    newest = new Date();
    await looks(1);
    expect(await metricsOf(backups)).toEqual({ [AGE]: LOOK_MS / 1_000, [FAILURES]: 2 });
  });

  it('hold no age before the first, and nothing where none is configured', async () => {
    newest = null;
    failure = new TwofoldError('storage_full');
    const backups = schedule();
    await looks(1);
    expect(Object.keys(await metricsOf(backups))).toEqual([FAILURES]);
    expect(await metricsOf(schedule(false))).toEqual({});
    expect(await metricsOf(null)).toEqual({});
  });
});

describe('backups that are overdue', () => {
  const DAYS_MS = 86_400_000;
  const overdue = (state: string, ageMs: unknown) => ['backup.overdue', { state, ageMs }];
  const told = () => noted.filter(([name]) => name === 'backup.overdue');

  it('are told once for each time that the newest becomes too old', async () => {
    newest = new Date(Date.now() - 2 * DAYS_MS + LOOK_MS);
    failure = new AnotherBackup();
    const backups = schedule();
    await looks(1);
    // As old as it may be.
    expect([backups.state, told()]).toEqual(['ok', []]);
    await looks(3);
    expect(backups.state).toBe('too-old');
    expect(told()).toEqual([overdue('too-old', 2 * DAYS_MS + LOOK_MS)]);
    newest = new Date();
    await looks(1);
    expect([backups.state, told().length]).toEqual(['ok', 1]);
    newest = new Date(Date.now() - 3 * DAYS_MS);
    await looks(2);
    expect(told().slice(1)).toEqual([overdue('too-old', expect.any(Number))]);
  });

  it('are told where there is none at all, and not where none is configured', async () => {
    newest = null;
    failure = new AnotherBackup();
    expect(schedule(false).state).toBe('off');
    await looks(2);
    expect(told()).toEqual([]);
    const backups = schedule();
    // The first look is that of the start.
    await jest.advanceTimersByTimeAsync(100);
    expect(givenUp).toBe(1);
    await looks(2);
    expect(givenUp).toBe(3);
    expect(backups.state).toBe('none');
    expect(told()).toEqual([overdue('none', null)]);
    // Why there is none comes before that there is none.
    failure = new TwofoldError('storage_full');
    await looks(1);
    expect(backups.state).toBe('failing');
    expect(told()).toHaveLength(1);
  });
});

describe('a backup that cannot be taken', () => {
  it('is told once for each cause and shows, also where an operator has to do something first', async () => {
    failure = new TwofoldError('conflict', 'Root generation 2 is not wrapped.');
    const backups = schedule();
    await looks(4);
    expect(noted).toEqual([['backup.failed', { problem: 'conflict' }]]);
    expect(backups.state).toBe('failing');
    failure = new TwofoldError('storage_full');
    await looks(3);
    expect(noted.slice(1)).toEqual([['backup.failed', { problem: 'storage_full' }]]);
    // Another instance took one.
    newest = new Date();
    await looks(1);
    expect(backups.state).toBe('ok');
  });

  it('is told to who asked for it, and counted', async () => {
    // So that none is due.
    newest = new Date();
    failure = new TwofoldError('conflict', 'Root generation 2 is not wrapped.');
    const backups = schedule();
    const asked = { requestedBy: { issuer: 'i', subject: 's' }, entries: null, request: null };
    for (const dryRun of [true, false]) {
      const refused = backups.begin({ ...asked, dryRun });
      await expect(refused).rejects.toThrow('Root generation 2 is not wrapped.');
    }
    // Whoever only looked has seen, and nothing has failed.
    expect([backups.failures, noted]).toEqual([1, [['backup.failed', { problem: 'conflict' }]]]);
  });

  it('because another instance takes one is no failure', async () => {
    failure = new AnotherBackup();
    const backups = schedule();
    await looks(3);
    expect([noted, backups.state]).toEqual([[], 'ok']);
  });
});
