/**
 * A backup that is killed or that the disk has no room for: nothing of it is ever taken for one, and the next
 * one is whole. A restore that is killed is in e2e/token-lost.slow.test.ts.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { copyBackup } from '../../src/backup/copy.ts';
import { backupsIn } from '../../src/backup/folder.ts';
import { openBackup, verifyContent } from '../../src/backup/verify.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import type { SecretBytes } from '../../src/crypto/secret.ts';
import { encodePublicKey, newSeed, recoveryKeyOf } from '../../src/recovery/key.ts';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { rowsAsOwner } from '../store/owner.ts';

const CHILD = join(import.meta.dirname, 'killed-child.ts');
const TWOFOLD = join(import.meta.dirname, '../../scripts/twofold');
/** Kills in the middle of a backup; 25 in the full run. */
const ROUNDS = Number(process.env['TWOFOLD_BACKUP_KILLS'] ?? 12);
const SEED = Number(process.env['TWOFOLD_BACKUP_SEED'] ?? 1);
const ROWS = 60_000;

let state = SEED;
/** The same for the same seed: a linear congruential generator (Numerical Recipes). */
const random = (): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state / 2 ** 32;
};

let database: TestDatabase;
let folder: string;
let seed: SecretBytes;
const backups = () => join(folder, 'backups');

beforeAll(async () => {
  database = await startTestDatabase();
  folder = mkdtempSync(join(tmpdir(), 'twofold-killed-'));
  seed = newSeed();
  const key = recoveryKeyOf(nativeEngine, seed);
  writeFileSync(join(folder, 'recovery.pem'), encodePublicKey(key.publicKey));
  await rowsAsOwner(
    database,
    `insert into public.usage_counter select md5(i::text) || '/1', i from generate_series(1, $1::integer) i`,
    [ROWS],
  );
}, 60_000);

afterAll(async () => {
  await database.stop();
  rmSync(folder, { recursive: true, force: true });
});

const start = () =>
  spawn(process.execPath, [CHILD, database.appUrl, backups(), join(folder, 'recovery.pem')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });

/** Milliseconds from its first word to its end. */
async function wholeRun(): Promise<number> {
  const child = start();
  const closed = once(child, 'close');
  await once(child.stdout, 'data');
  const begun = performance.now();
  const [code] = (await closed) as [number];
  expect(code).toBe(0);
  return performance.now() - begun;
}

async function verifyAll(): Promise<number> {
  const paths = await backupsIn(backups());
  for (const path of paths) {
    const backup = await openBackup(nativeEngine, path, null);
    await verifyContent(nativeEngine, backup, seed);
    expect(backup.manifest.tables.find(({ name }) => name === 'usage_counter')?.rows).toBe(ROWS);
    await backup.close();
  }
  return paths.length;
}

/** Of this thread, milliseconds. */
const pause = (milliseconds: number) =>
  void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);

describe('a backup', () => {
  it('that is killed at any point is none, and the next is whole', async () => {
    const took = await wholeRun();
    for (let round = 0; round < ROUNDS; round += 1) {
      const child = start();
      const closed = once(child, 'close');
      await once(child.stdout, 'data');
      await sleep((took * 1.1 * (round + random())) / ROUNDS);
      child.kill('SIGKILL');
      await closed;
      // Everything that has a name is whole.
      await verifyAll();
      await unlocked();
    }
    await wholeRun();
    await verifyAll();
    expect(readdirSync(backups()).filter((name) => name.startsWith('.'))).toEqual([]);
  }, 300_000);

  /** The database notices a client that was killed when it next writes to it. */
  async function unlocked(): Promise<void> {
    for (;;) {
      const held = await rowsAsOwner(
        database,
        `select 1 from pg_locks where locktype = 'advisory' and objid = 7413`,
      );
      if (held.length === 0) return;
      await sleep(20);
    }
  }

  it('whose copy is cut off goes on where it was, and is whole or not there', async () => {
    const [path = ''] = await backupsIn(backups());
    const to = join(folder, 'elsewhere');
    const name = basename(path);
    const copying = join(to, `.copying-${name}`);
    const copy = async () => {
      const backup = await openBackup(nativeEngine, path, null);
      try {
        return await copyBackup(backup, to);
      } finally {
        await backup.close();
      }
    };
    // What a kill left: the beginning, with a part that never reached the disk.
    mkdirSync(copying, { recursive: true });
    const content = readFileSync(join(path, 'content'));
    const begun = Buffer.from(content.subarray(0, 3_000_000));
    begun.fill(0, 2_200_000);
    writeFileSync(join(copying, 'content'), begun);
    writeFileSync(join(copying, 'manifest.json'), 'half');
    const verifying = openBackup(nativeEngine, copying, null);
    await expect(verifying).rejects.toThrow(/never finished/u);
    expect(await copy()).toEqual({
      path: join(to, name),
      found: 2 * 1_048_576,
      bytes: content.length,
    });
    expect(readdirSync(to)).toEqual([name]);
    expect(readFileSync(join(to, name, 'content')).equals(content)).toBe(true);
    const copied = await openBackup(nativeEngine, join(to, name), null);
    await verifyContent(nativeEngine, copied, seed);
    await copied.close();
    await expect(copy()).rejects.toThrow(/is there already/u);
  }, 30_000);

  it('whose copy is killed is whole or not there, and the next goes on with what was written', async () => {
    const [path = ''] = await backupsIn(backups());
    const name = basename(path);
    const to = join(folder, 'killed-copy');
    const partial = join(to, `.copying-${name}`);
    const length = statSync(join(path, 'content')).size;
    const written = () => {
      const file = join(partial, 'content');
      return existsSync(file) ? statSync(file).size : 0;
    };
    const options = { env: COMMAND_ENVIRONMENT, encoding: 'utf8', detached: true } as const;
    const argv = ['backup', 'copy', path, '--to', to];
    /** Killed once so much is written; whether that was before it had its name. */
    const killedAt = async (least: number): Promise<boolean> => {
      const child = spawn(TWOFOLD, argv, { ...options, stdio: 'ignore' });
      const closed = once(child, 'close');
      // No turn of the loop in between: the rest of the copy takes some ten milliseconds.
      const until = performance.now() + 20_000;
      while (written() < least && !existsSync(join(to, name)) && performance.now() < until)
        pause(1);
      process.kill(-(child.pid ?? 0), 'SIGKILL');
      await closed;
      if (!existsSync(join(to, name))) return true;
      await verifyCopy();
      rmSync(to, { recursive: true });
      return false;
    };
    const verifyCopy = async () => {
      expect(readdirSync(to)).toEqual([name]);
      const copied = await openBackup(nativeEngine, join(to, name), null);
      await verifyContent(nativeEngine, copied, seed);
      await copied.close();
    };
    // On a machine that is busy with other things a kill may come late.
    let cutOff = false;
    for (let tries = 0; tries < 5 && !cutOff; tries += 1) cutOff = await killedAt(1_048_576);
    expect(cutOff).toBe(true);
    expect(readdirSync(to)).toEqual([basename(partial)]);
    await expect(openBackup(nativeEngine, partial, null)).rejects.toThrow(/never finished/u);
    const parts = Math.floor(written() / 1_048_576);
    const { status, stdout } = spawnSync(TWOFOLD, argv, options);
    expect(status).toBe(0);
    const found = Math.min(parts * 1_048_576, length);
    expect(JSON.parse(stdout)).toEqual({ path: join(to, name), found, bytes: length });
    expect(parts).toBeGreaterThan(0);
    await verifyCopy();
  }, 60_000);

  it('that the disk has no room for says so, and leaves nothing', async () => {
    const before = readdirSync(backups());
    const command = `ulimit -f 2000; exec "$@"`;
    const args = [CHILD, database.appUrl, backups(), join(folder, 'recovery.pem')];
    const { status, stderr } = spawnSync(
      '/bin/sh',
      ['-c', `trap '' XFSZ; ${command}`, 'sh', process.execPath, ...args],
      { encoding: 'utf8' },
    );
    expect(status).not.toBe(0);
    expect(stderr).toContain('storage_full');
    expect(readdirSync(backups())).toEqual(before);
    await unlocked();
  }, 30_000);
});
