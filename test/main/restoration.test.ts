/** A start in a database that came out of a backup. */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { describe, expect, it } from '@jest/globals';

import type { Restoration } from '../../src/backup/ports.ts';
import { loadConfig } from '../../src/config.ts';
import { prepareDatabase } from '../../src/main/database.ts';
import {
  announceRestoration,
  endRestore,
  markRestore,
  requireRestored,
} from '../../src/main/restoration.ts';
import { Unwinding } from '../../src/main/unwinding.ts';
import type { Store } from '../../src/store/store.ts';
import { codeOf } from '../keyring/world.ts';

const nothing = () => undefined;

const of = (state: Restoration['state'] | null) => {
  const told: string[] = [];
  const restoration: Restoration | null =
    state === null
      ? null
      : {
          backup: '01234567-89ab-4def-8123-456789abcdef',
          state,
          takenAt: new Date('2026-11-29T12:00:00Z'),
          restoredAt: new Date('2026-11-29T13:00:00Z'),
          logSize: 300,
          logRoot: new Uint8Array(32),
        };
  const backups = {
    restoration: () => Promise.resolve(restoration),
    announced: () => Promise.resolve(void told.push('announced')),
  };
  const audit = {
    recordOwn: (operation: string, detail: object) => {
      told.push(`${operation} ${JSON.stringify(detail)}`);
      return Promise.resolve('1-1');
    },
  };
  const log = {
    archived: () => Promise.resolve({ until: 256, removed: 256, place: 'exports' }),
  };
  return { store: { backups: backups as unknown as Store['backups'], log }, audit, told };
};

describe('a start', () => {
  it('is refused where a restore is not over, and nowhere else', async () => {
    expect(await codeOf(requireRestored(of('loaded').store))).toBe('conflict');
    for (const state of [null, 'verified', 'announced'] as const) {
      await requireRestored(of(state).store);
    }
  });

  it('begins no installation where a restore was killed before anything of it was placed', async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'twofold-restoring-'));
    const config = loadConfig({
      environment: { TWOFOLD_DATA: dataDir },
      flags: new Map([['mode', 'dev']]),
    });
    const log = { info: nothing, warn: nothing, error: nothing };
    const start = () => codeOf(prepareDatabase(config, '0.0.0-test', log, new Unwinding(nothing)));
    markRestore(config, '01234567-89ab-4def-8123-456789abcdef');
    expect(await start()).toBe('conflict');
    expect(existsSync(join(dataDir, 'db'))).toBe(false);
    endRestore(config);
    // A token says for itself what it holds, and an operator's makes no root.
    mkdirSync(join(dataDir, 'hsm/tokens'), { recursive: true });
    markRestore(config, '01234567-89ab-4def-8123-456789abcdef');
    const elsewhere = {
      dataDir: join(dataDir, 'new'),
      hsm: { ...config.hsm, module: '/module.so' },
    };
    markRestore(elsewhere, '01234567-89ab-4def-8123-456789abcdef');
    expect(existsSync(join(dataDir, 'restoring')) || existsSync(elsewhere.dataDir)).toBe(false);
    rmSync(dataDir, { recursive: true });
  });

  it('says once in the log from where it goes on, before that is noted', async () => {
    const { store, audit, told } = of('verified');
    await announceRestoration(store, audit);
    expect(told[0]).toContain('audit.restored');
    expect(told[0]).toContain('"atSize":300');
    expect(told[0]).toContain('"entriesFrom":256');
    expect(told[1]).toBe('announced');
    for (const state of [null, 'announced'] as const) {
      const other = of(state);
      await announceRestoration(other.store, other.audit);
      expect(other.told).toEqual([]);
    }
  });
});
