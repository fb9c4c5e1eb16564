/** Token or database gone or exchanged: the start says so, makes no root, and damages nothing. */
import { once } from 'node:events';
import { cpSync, existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { killAll, leftOf } from '../e2e/processes.ts';
import { TestService } from '../e2e/service.ts';

const plaintext = Buffer.from('a data key of a checkpoint').toString('base64');

let folder: string;
let dataDir: string;
let ciphertext: unknown;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-root-lost-'));
  const service = await TestService.start();
  ({ dataDir } = service);
  await service.request('POST', '/v1/admin/keys', { name: 'kept', suite: 'MLKEM768-P256' });
  const { json } = await service.request('POST', '/v1/keys/kept/wrap', { plaintext });
  ({ ciphertext } = json);
  await service.stop();
}, 120_000);

afterAll(async () => {
  for (const path of [dataDir, folder]) {
    await killAll(path);
    rmSync(path, { recursive: true, force: true });
  }
});

async function refusal(): Promise<string> {
  const service = await TestService.start({ dataDir, ready: false });
  if (service.running) await once(service.child, 'exit');
  expect(service.child.exitCode).toBe(1);
  expect(service.output).toContain('(integrity_failed)');
  expect(await leftOf(dataDir)).toEqual([]);
  return service.output;
}

async function expectServes(): Promise<void> {
  const service = await TestService.start({ dataDir });
  const { json } = await service.request('POST', '/v1/keys/kept/unwrap', { ciphertext });
  expect(json).toMatchObject({ plaintext, origin: 'service' });
  expect(await service.stop()).toBe(0);
}

describe('a start over existing data', () => {
  const part = (name: string) => join(dataDir, name);
  const away = (name: string) => join(folder, `${name}-away`);

  it('without its token makes none, and goes on with it once it is restored', async () => {
    renameSync(part('hsm'), away('hsm'));
    expect(await refusal()).toContain(`${part('hsm')} holds no token`);
    expect(existsSync(part('hsm'))).toBe(false);
    renameSync(away('hsm'), part('hsm'));
    await expectServes();
  }, 120_000);

  it('without the SO PIN, which only ceremonies read, serves and makes keys', async () => {
    renameSync(join(part('hsm'), 'ceremony'), away('ceremony'));
    const service = await TestService.start({ dataDir });
    for (const suite of ['MLKEM1024-P384', 'MLKEM768-X25519', 'MLDSA65-ECDSA-P256-SHA512']) {
      const made = await service.request('POST', '/v1/admin/keys', {
        name: suite.toLowerCase(),
        suite,
      });
      expect([suite, made.status]).toEqual([suite, 201]);
    }
    expect(await service.stop()).toBe(0);
    rmSync(join(part('hsm'), 'ceremony'), { recursive: true });
    renameSync(away('ceremony'), join(part('hsm'), 'ceremony'));
  }, 120_000);

  it('without its database makes no root, and goes on with it once it is restored', async () => {
    renameSync(part('db'), away('db'));
    expect(await refusal()).toContain('the database knows no root');
    rmSync(part('db'), { recursive: true });
    renameSync(away('db'), part('db'));
    await expectServes();
  }, 120_000);

  it('with the token of another installation makes no root on it', async () => {
    const other = await TestService.start({ dataDir: join(folder, 'other') });
    await other.stop();
    renameSync(part('hsm'), away('hsm'));
    cpSync(join(folder, 'other', 'hsm'), part('hsm'), { recursive: true });
    expect(await refusal()).toContain('but the token does not');
    rmSync(part('hsm'), { recursive: true });
    renameSync(away('hsm'), part('hsm'));
    await expectServes();
  }, 120_000);
});
