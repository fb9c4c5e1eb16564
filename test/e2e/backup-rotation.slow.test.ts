/** Backups from before a rotation of the root, from amid it and from after it: each restores onto a new token. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { TestService } from './service.ts';

const command = join(import.meta.dirname, '../../scripts/twofold');
/** `all` in the full run: also the backup from amid a rotation, when both generations are in use. */
const AMID = process.env['TWOFOLD_ROTATED_BACKUPS'] === 'all';
const MESSAGE = Buffer.from('from before').toString('base64');

let folder: string;
let service: TestService;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-rotated-'));
  service = await TestService.start();
}, 90_000);

afterAll(async () => {
  await service.destroy();
  rmSync(folder, { recursive: true, force: true });
});

const share = (set: string, number: number) => join(folder, set, `share-${String(number)}.txt`);

function twofold(dataDir: string, ...argv: string[]) {
  const { status, stdout, stderr } = spawnSync(command, argv, {
    encoding: 'utf8',
    env: {
      ...COMMAND_ENVIRONMENT,
      TWOFOLD_DATA: dataDir,
      TWOFOLD_BACKUP_FOLDER: join(folder, 'backups'),
      TWOFOLD_BACKUP_RECOVERY_KEY_FILE: join(folder, 'first/recovery.pem'),
    },
  });
  return { status, stdout, stderr };
}

/** The JSON that it ends with. */
function done(dataDir: string, ...argv: string[]): Record<string, unknown> {
  const { status, stdout, stderr } = twofold(dataDir, ...argv);
  if (status !== 0) throw new Error(`${argv.join(' ')}: ${stdout}${stderr}`);
  return JSON.parse(stdout.slice(stdout.search(/^\{/mu))) as Record<string, unknown>;
}

const escrow = (set: string) =>
  done(
    service.dataDir,
    ...['hsm', 'escrow', '--recovery', join(folder, set, 'recovery.pem')],
    ...['--so-pin-file', join(service.dataDir, 'hsm/ceremony/so.pin')],
  );

const create = (): string => String(done(service.dataDir, 'backup', 'create')['path']);

async function rotateRoot(): Promise<void> {
  const body = { reason: 'a drill' };
  let begun = await service.request('POST', '/v1/admin/root/rotations', body);
  // Instances open a new generation within seconds.
  while (begun.status === 409) {
    await sleep(300);
    begun = await service.request('POST', '/v1/admin/root/rotations', body);
  }
  const path = `/v1/admin/root/rotations/${String(begun.json['id'])}`;
  for (;;) {
    const { json } = await service.request('GET', path);
    if (json['state'] !== 'running') {
      expect(json).toMatchObject({ state: 'succeeded' });
      return;
    }
    await sleep(200);
  }
}

const taken: { path: string; generations: readonly number[] }[] = [];

it('are taken once each generation in use is escrowed, whatever became of others', async () => {
  for (const suite of ['MLKEM768-P256', 'A256GCM']) {
    const name = suite.toLowerCase();
    const made = await service.request('POST', '/v1/admin/keys', { name, suite });
    expect(made.status).toBe(201);
    await service.request('POST', `/v1/keys/${name}/wrap`, { plaintext: MESSAGE });
  }
  for (const set of ['first', 'second']) {
    const out = join(folder, set);
    const argv = ['recovery', 'create', '--shares', '3', '--threshold', '2', '--out', out];
    expect(twofold(service.dataDir, ...argv).status).toBe(0);
  }
  expect(escrow('first')).toMatchObject({ escrowed: [1] });
  taken.push({ path: create(), generations: [1] });
  done(service.dataDir, 'hsm', 'generation', 'add');
  await rotateRoot();
  const without = twofold(service.dataDir, 'backup', 'create');
  expect([without.status, without.stderr]).toEqual([1, expect.stringContaining('generation 2')]);
  expect(escrow('first')).toMatchObject({ escrowed: [2] });
  if (AMID) taken.push({ path: create(), generations: [1, 2] });
  expect(done(service.dataDir, 'hsm', 'generation', 'retire', '1')).toMatchObject({
    state: 'retired',
  });
  // The first generation is on no token any more.
  expect(escrow('second')).toMatchObject({ escrowed: [2] });
  taken.push({ path: create(), generations: [2] });
}, 120_000);

it('restore onto a new token, and their ciphertexts open there', () => {
  for (const [number, { path, generations }] of taken.entries()) {
    const dataDir = join(folder, `restored-${String(number)}`);
    mkdirSync(dataDir, { mode: 0o700 });
    const shares = ['--share', share('first', 1), '--share', share('first', 3)];
    done(service.dataDir, 'backup', 'verify', path, ...shares);
    const soPin = ['--so-pin-file', join(dataDir, 'hsm/ceremony/so.pin')];
    const older = path === taken.at(-1)?.path ? [] : ['--older'];
    const restored = done(dataDir, 'backup', 'restore', path, ...soPin, ...shares, ...older);
    expect(restored).toMatchObject({ generations, keys: 2, left: [], probes: 2 });
  }
}, 120_000);
