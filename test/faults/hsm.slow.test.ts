/** The token under a real service: wrong PIN, open PIN file, gone and back, and its disk full. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';

import { findEmbedded } from '../../src/store/embedded.ts';
import { TestService } from '../e2e/service.ts';
import { eventually } from '../store/eventually.ts';
import { Load, everythingHasAnIndex, healthOf, untilFailing, untilReady } from './load.ts';

/** A data folder with database, token, root and a key, whose service has ended. */
let pattern: string;
let wrapped: unknown;

beforeAll(async () => {
  const service = await TestService.start();
  const made = await service.request('POST', '/v1/admin/keys', {
    name: 'kept',
    suite: 'MLKEM768-P256',
  });
  expect(made.status).toBe(201);
  const { json } = await service.request('POST', '/v1/keys/kept/wrap', { plaintext: 'AAAA' });
  wrapped = json['ciphertext'];
  await service.stop();
  pattern = service.dataDir;
}, 120_000);
afterAll(() => {
  rmSync(pattern, { recursive: true, force: true });
});

/** A folder of its own for each test; paths in the token's configuration follow at the start. */
function copyOfPattern(): string {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-faults-hsm-'));
  cpSync(pattern, folder, { recursive: true });
  return folder;
}

const pinFile = (folder: string) => join(folder, 'hsm', 'user.pin');
const tokens = (folder: string) => join(folder, 'hsm', 'tokens');
const expectUnwraps = async (service: TestService) => {
  const answer = await service.request('POST', '/v1/keys/kept/unwrap', { ciphertext: wrapped });
  expect([answer.status, answer.json.code, answer.json['plaintext']]).toEqual([
    200,
    undefined,
    'AAAA',
  ]);
};

/** Where a service that still starts listens: the only one of its sockets that answers /readyz. */
async function startingUrl(service: TestService): Promise<string> {
  const inodes = new Set<string>();
  const { stdout } = spawnSync('ls', ['-l', `/proc/${String(service.pid)}/fd`], {
    encoding: 'utf8',
  });
  for (const [, inode = ''] of stdout.matchAll(/socket:\[(\d+)\]/gu)) inodes.add(inode);
  const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1);
  for (const line of lines) {
    const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/u);
    if (state !== '0A' || !inodes.has(inode)) continue;
    const url = `http://127.0.0.1:${String(parseInt(local.split(':')[1] ?? '', 16))}`;
    const found = await fetch(`${url}/readyz`).then(
      ({ status }) => status === 503 || status === 200,
      () => false,
    );
    if (found) return url;
  }
  throw new Error('the starting service listens nowhere');
}

describe('a PIN', () => {
  let service: TestService | undefined;
  afterEach(async () => {
    await service?.destroy();
    service = undefined;
  });

  it('that is wrong is offered once, says so, and the start goes on when it is corrected', async () => {
    const dataDir = copyOfPattern();
    const right = readFileSync(pinFile(dataDir));
    writeFileSync(pinFile(dataDir), 'not-the-pin\n');
    service = await TestService.start({ dataDir, ready: false });
    await service.untilOutput(/The HSM is not ready \(pin-refused\)/u);
    const refusals = (of: TestService) => of.log.split('the token refused the PIN').length - 1;
    await eventually(async () => refusals(service as TestService) > 0);
    const url = await startingUrl(service);
    const health = await healthOf(service, url);
    expect([health.status, health.states['hsm']]).toEqual([503, 'pin-refused']);
    const early = await fetch(`${url}/v1/keys/kept`, {
      headers: { Authorization: `Bearer ${await service.token('user')}` },
    });
    expect(early.status).toBe(503);

    // More than several polls of the file; a second attempt at the token would be logged again.
    await sleep(2_500);
    expect(refusals(service)).toBe(1);
    expect(existsSync(join(dataDir, 'refused-pin.json'))).toBe(true);

    await service.stop();
    expect(service.child.exitCode).toBe(0);
    service = await TestService.start({ dataDir, ready: false });
    await service.untilOutput(/The HSM is not ready \(pin-refused\)/u);
    await sleep(1_000);
    // Not even by a restart: what refused it is not asked again.
    expect(refusals(service)).toBe(1);

    writeFileSync(pinFile(dataDir), right);
    await service.untilReady();
    await untilReady(service);
    await expectUnwraps(service);
    expect(existsSync(join(dataDir, 'refused-pin.json'))).toBe(false);
  }, 120_000);

  it('in a file that others may read is not used, and the message says what to do', async () => {
    const dataDir = copyOfPattern();
    chmodSync(pinFile(dataDir), 0o644);
    service = await TestService.start({ dataDir, ready: false });
    await service.untilOutput(/others may read the PIN file .*user\.pin: chmod 600 it/u);
    expect((await healthOf(service, await startingUrl(service))).status).toBe(503);
    chmodSync(pinFile(dataDir), 0o600);
    await service.untilReady();
    await expectUnwraps(service);
  }, 90_000);
});

describe('a token', () => {
  let service: TestService;
  /** Newest first. */
  const own = async (operation: string): Promise<Record<string, unknown>[]> => {
    const path = `/v1/audit/entries?operation=${operation}`;
    const { json } = await service.request('GET', path);
    return (json['items'] as { detail: Record<string, unknown> }[]).map(({ detail }) => detail);
  };
  beforeAll(async () => {
    service = await TestService.start({ dataDir: copyOfPattern() });
    await expectUnwraps(service);
  }, 90_000);
  afterAll(async () => {
    await service.destroy();
  }, 60_000);

  it('that goes away under load is reported, and serves again when it is back; nothing is lost', async () => {
    const load = new Load(service, 'away');
    load.start(2);
    await eventually(async () => load.acknowledged > 6, 60_000);
    const away = `${tokens(service.dataDir)}.away`;
    renameSync(tokens(service.dataDir), away);
    mkdirSync(tokens(service.dataDir));
    const { status, states } = await untilFailing(service, 'hsm', 60_000);
    expect(status).toBe(503);
    expect(['session-lost', 'token-absent']).toContain(states['hsm']);
    const refused = await service.request('POST', '/v1/keys/kept/unwrap', { ciphertext: wrapped });
    expect([
      refused.status,
      ['hsm_unavailable', 'audit_unavailable'].includes(refused.json.code ?? ''),
    ]).toEqual([503, true]);
    rmSync(tokens(service.dataDir), { recursive: true });
    renameSync(away, tokens(service.dataDir));
    await untilReady(service);
    await load.stop();
    await load.round();
    for (const { status: code } of load.refusals) expect(code).toBe(503);
    const owner = findEmbedded(service.dataDir)?.ownerUrl ?? '';
    await load.expectKept(owner);
    await expectUnwraps(service);
    // No checkpoint was signed meanwhile; then one has every entry of before, of meanwhile and of after.
    await eventually(() => everythingHasAnIndex(owner), 60_000);
    // Gone while nothing could be recorded, and on record once something could.
    const seen = async () => (await own('hsm.state')).map(({ state }) => state);
    await eventually(async () => (await seen())[0] === 'ok');
    const [, lost] = await own('hsm.state');
    expect(['session-lost', 'token-absent']).toContain(lost?.['state']);
    expect(lost?.['happenedAt']).toMatch(/^\d{4}-.*Z$/u);
  }, 180_000);

  it('has a service that says in its log under what it started, and that it leads', async () => {
    const [started] = await own('system.start');
    expect(started).toMatchObject({ configuration: expect.stringMatching(/^[0-9a-f]{64}$/u) });
    // The roles are elected side by side: which of them is the first to lead is not said.
    const led = async () => (await own('leader.taken')).filter(({ role }) => role === 'scheduler');
    await eventually(async () => (await led()).length > 0, 30_000);
    expect((await led())[0]).toMatchObject({ term: expect.any(Number) });
  }, 60_000);
});

const mount = (folder: string) =>
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=220k,mode=700', 'tmpfs', folder]).status === 0;
const canMount = (() => {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-mount-'));
  const mounted = mount(folder);
  if (mounted) spawnSync('umount', [folder]);
  rmSync(folder, { recursive: true });
  if (!mounted) process.stderr.write('skipped: this user may mount no tmpfs for a full disk\n');
  return mounted;
})();

(canMount ? describe : describe.skip)('the file system under the token', () => {
  it('full: a key that needs it is refused, others are served, and room ends it', async () => {
    const dataDir = copyOfPattern();
    const small = tokens(dataDir);
    const kept = `${small}.kept`;
    renameSync(small, kept);
    mkdirSync(small, { mode: 0o700 });
    expect(mount(small)).toBe(true);
    let service: TestService | undefined;
    try {
      cpSync(kept, small, { recursive: true });
      service = await TestService.start({ dataDir });
      const create = (name: string, suite: string) =>
        (service as TestService).request('POST', '/v1/admin/keys', { name, suite });
      writeFileSync(join(small, 'filler'), Buffer.alloc(60_000));
      const made: string[] = [];
      let refused = await create('x-0', 'MLKEM768-X25519');
      for (let index = 1; refused.status === 201 && index < 100; index += 1) {
        made.push(String(refused.json['name']));
        refused = await create(`x-${String(index)}`, 'MLKEM768-X25519');
      }
      expect(refused.status).toBe(503);
      expect(['hsm_full', 'storage_full']).toContain(refused.json.code);
      expect((await healthOf(service)).status).toBe(200);
      await expectUnwraps(service);
      expect((await create('p-256', 'MLKEM768-P256')).status).toBe(201);
      for (const name of made) {
        const answer = await service.request('POST', `/v1/keys/${name}/wrap`, {
          plaintext: 'AAAA',
        });
        expect(answer.status).toBe(200);
      }
      rmSync(join(small, 'filler'));
      expect((await create('x-later', 'MLKEM768-X25519')).status).toBe(201);
      const later = await service.request('POST', '/v1/keys/x-later/wrap', { plaintext: 'AAAA' });
      expect(later.status).toBe(200);
    } finally {
      await service?.stop();
      spawnSync('umount', [small]);
      await service?.destroy();
      rmSync(dataDir, { recursive: true, force: true });
    }
  }, 120_000);
});
