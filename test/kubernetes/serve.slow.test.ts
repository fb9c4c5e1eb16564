/** The provider of a real service: real HSM module, real database, real socket. */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';

import { TestService } from '../e2e/service.ts';
import { eventually } from '../store/eventually.ts';
import { ApiServer } from './apiserver.ts';
import type { Etcd, StoredObject } from './apiserver.ts';

let folder: string;
let socket: string;
let service: TestService;
const etcd: Etcd = new Map<string, StoredObject>();
const servers: ApiServer[] = [];

const start = (args: readonly string[] = [], dataDir?: string): Promise<TestService> =>
  TestService.start({
    args: ['--kms-socket', socket, '--kms-key', 'secrets', ...args],
    ...(dataDir === undefined ? {} : { dataDir }),
  });

const served = async (): Promise<ApiServer> => {
  const server = new ApiServer(socket, etcd);
  servers.push(server);
  await eventually(async () => {
    await server.poll();
    return server.health === null;
  });
  return server;
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kms-'));
  socket = join(folder, 'kms.sock');
  service = await start(['--kms-suite', 'MLKEM768-P256']);
}, 90_000);

afterAll(async () => {
  for (const server of servers) server.stop();
  await service.destroy();
  rmSync(folder, { recursive: true });
});

test('dev makes the key, protected against deletion, and serves the socket to its owner alone', async () => {
  const server = await served();
  server.put('/registry/secrets/default/a', Buffer.from('a Secret'));
  expect(statSync(socket).mode & 0o777).toBe(0o600);
  expect(readdirSync(folder).toSorted()).toEqual(['kms.sock', 'kms.sock.lock']);
  const { json } = await service.request('GET', '/v1/keys/secrets');
  expect(json).toMatchObject({ deletionProtection: true });
});

test('each call has its audit entry, under the name of the provider', async () => {
  const { json } = await service.request('GET', '/v1/audit/entries?operation=wrap&pageSize=1');
  const [entry] = json['items'] as { actor: object; detail: object; outcome: string }[];
  expect(entry).toMatchObject({
    outcome: 'ok',
    detail: { 'kubernetes/cluster': 'development', 'kubernetes/version': '1' },
  });
  expect(JSON.stringify(entry?.actor)).toContain('urn:twofold:system');
});

test('metrics count calls by method and code', async () => {
  const [server] = servers;
  await server?.plugin
    .decrypt({ ciphertext: new Uint8Array(9), keyId: 'x', annotations: {} })
    .catch(() => 0);
  const url = /^metrics +(\S+)$/mu.exec(service.output)?.[1] ?? '';
  const text = await (await fetch(url)).text();
  expect(text).toMatch(/twofold_kubernetes_call_seconds_count\{method="Encrypt",code="OK"\} 1/u);
  expect(text).toMatch(
    /kubernetes_call_seconds_count\{method="Decrypt",code="INVALID_ARGUMENT"\} 1/u,
  );
});

test('a rotation is announced when every instance has confirmed it, and the key is held', async () => {
  const { json } = await service.request('GET', '/v1/keys/secrets');
  const labels = { 'kubernetes/development': 'provider=twofold announced=1' };
  expect(json).toMatchObject({ labels });
  const [server] = servers;
  const before = server?.keyId;
  expect((await service.request('POST', '/v1/admin/keys/secrets/rotate', {})).status).toBe(200);
  const after = { 'kubernetes/development': 'provider=twofold announced=2' };
  await eventually(async () => {
    const { json: read } = await service.request('GET', '/v1/keys/secrets');
    return JSON.stringify(read['labels']) === JSON.stringify(after);
  });
  await eventually(async () => {
    await server?.poll();
    return server?.keyId !== before;
  }, 15_000);
  expect(server?.health).toBeNull();
  server?.put('/registry/secrets/default/b', Buffer.from('another'));
  const closed = await service.request('PATCH', '/v1/admin/keys/secrets', { minUsableVersion: 2 });
  expect([closed.status, closed.json.code]).toEqual([409, 'deletion_protected']);
}, 30_000);

test('SIGTERM lets the calls under way end, and a restart opens what is stored', async () => {
  const [server] = servers;
  const stored = etcd.get('/registry/secrets/default/a');
  if (server === undefined || stored === undefined) throw new Error('nothing is stored');
  const calls = Array.from({ length: 20 }, () => server.plugin.decrypt(stored));
  await calls[0];
  const { dataDir } = service;
  const stopped = service.stop();
  const settled = await Promise.allSettled(calls);
  expect(settled.filter(({ status }) => status === 'rejected')).toEqual([]);
  await stopped;
  expect(readdirSync(folder)).not.toContain('kms.sock');
  service = await start([], dataDir);
  const fresh = await served();
  expect(Buffer.from(await fresh.get('/registry/secrets/default/a')).toString()).toBe('a Secret');
  await eventually(async () => {
    await server.poll();
    return server.health === null;
  });
}, 60_000);
