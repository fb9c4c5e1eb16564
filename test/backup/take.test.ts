/** What keeps a backup from being published, over a snapshot of nothing. */
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import { afterEach, beforeEach, expect, it } from '@jest/globals';

import type { BackupSigner } from '../../src/backup/manifest.ts';
import type { Snapshot } from '../../src/backup/ports.ts';
import { takeBackup } from '../../src/backup/take.ts';
import type { Taken, Wanted } from '../../src/backup/take.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { TwofoldError } from '../../src/errors.ts';
import { newSeed, recoveryKeyOf } from '../../src/recovery/key.ts';
import { softwareSigner } from './signer.ts';

let folder: string;
let closed: number;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-take-'));
  closed = 0;
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const snapshot = (): Snapshot => ({
  facts: {
    ...{ takenAt: new Date(), migrations: [], lastLane: 0, origin: null },
    ...{ log: { size: 0, root: new Uint8Array(32), note: null }, generations: [], escrows: [] },
  },
  tables: [],
  rows: async function* () {
    yield* [];
  },
  close: () => {
    closed += 1;
    return Promise.resolve();
  },
});

async function take(
  wanted: Partial<Wanted>,
  mac: BackupSigner['mac'] = () => Promise.resolve(new Uint8Array(32)),
): Promise<Taken> {
  const { publicKey } = recoveryKeyOf(nativeEngine, newSeed());
  const parts = {
    engine: nativeEngine,
    signer: await softwareSigner(mac),
    lastingMac: mac,
    open: () => Promise.resolve(snapshot()),
    installation: '01234567-89ab-4def-8123-456789abcdef',
    probes: async function* () {
      yield* [];
    },
    version: '0.0.0-test',
  };
  return takeBackup(parts, { folder, publicKey, entries: 'tail', ...wanted });
}

it('is published where nothing does', async () => {
  await take({ onSnapshot: () => Promise.resolve() });
  expect([readdirSync(folder).length, closed]).toEqual([1, 1]);
});

it('is published beside what others write into the same folder, which stays', async () => {
  const [own, other] = ['01234567-89ab-4def-8123-456789abcdef', randomUUID()];
  const theirs = `.partial-${other}.${randomUUID()}`;
  for (const name of [`.partial-${own}.${randomUUID()}`, theirs]) {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, 'content'), 'half');
  }
  const taken = await take({});
  expect(readdirSync(folder).toSorted()).toEqual([theirs, basename(taken.path)]);
  expect(readdirSync(join(folder, theirs))).toEqual(['content']);
});

it('is a row of it that cannot be written: nothing is begun', async () => {
  let begun = false;
  const onSnapshot = async () => {
    // After what is written without waiting for it.
    await new Promise((resolve) => setTimeout(resolve, 50));
    begun = readdirSync(folder).length > 0;
    throw new TwofoldError('database_unavailable');
  };
  await expect(take({ onSnapshot })).rejects.toMatchObject({ code: 'database_unavailable' });
  expect([begun, readdirSync(folder), closed]).toEqual([false, [], 1]);
});

it('is being given up as late as when it is signed', async () => {
  const giving = new AbortController();
  const given = take({ signal: giving.signal }, () => {
    giving.abort();
    return Promise.resolve(new Uint8Array(32));
  });
  await expect(given).rejects.toMatchObject({ code: 'shutting_down' });
  expect([readdirSync(folder), closed]).toEqual([[], 1]);
});
