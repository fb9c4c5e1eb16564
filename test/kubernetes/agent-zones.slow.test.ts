/**
 * The agent as an operator runs it, before two service processes that stand for two zones: one
 * hangs, and a rotation goes on; then the operator's tools, against what was
 * stored; and the end of a provider.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';

import { startBeside } from '../e2e/beside.ts';
import { TestService } from '../e2e/service.ts';
import { eventually } from '../store/eventually.ts';
import { ApiServer, PluginClient } from './apiserver.ts';
import type { Etcd, StoredObject } from './apiserver.ts';
import { KmsPlugin } from './kms-plugin.ts';
import { encryptedObject, etcdValue } from './stored-objects.ts';

const KEY = 'secrets';

let folder: string;
let socket: string;
let first: TestService;
let second: TestService;
let agent: KmsPlugin;
const etcd: Etcd = new Map<string, StoredObject>();
const servers: ApiServer[] = [];

async function ran(...argv: readonly string[]) {
  const program = new KmsPlugin(folder, argv);
  return { code: await program.ended(), output: program.output };
}

const tokenFile = () => join(folder, 'token');
const operator = () => ['--url', second.url, '--authorization', join(folder, 'admin.header')];
const about = ['--key', KEY, '--cluster', 'c1'];
const startAgent = async () => {
  const own = ['--socket', socket, '--token-file', tokenFile(), '--metrics-port', '0'];
  const zones = ['--server', first.url, '--server', second.url];
  const program = new KmsPlugin(folder, ['serve', ...own, ...zones, ...about]);
  await program.until('serving ');
  return program;
};

const startServer = async (): Promise<ApiServer> => {
  const server = new ApiServer(socket, etcd);
  servers.push(server);
  try {
    await server.start();
    return server;
  } catch (error) {
    server.stop();
    throw error;
  }
};
const readable = async (server: ApiServer) => {
  await server.poll();
  return server.health === null;
};

/** What `etcdctl get /registry/ --prefix -w json` would print, or one of Secrets alone. */
function dump(whole = true): string {
  const sealed = [...etcd].map(
    ([name, stored]) => [name, etcdValue(encryptedObject(stored))] as const,
  );
  const namespaces = [['/registry/namespaces/kube-system', Buffer.from('k8s\0')] as const];
  const kvs = [...(whole ? namespaces : []), ...sealed].map(([name, value]) => ({
    key: Buffer.from(name).toString('base64'),
    mod_revision: 1,
    value: value.toString('base64'),
  }));
  const path = join(folder, 'dump.json');
  writeFileSync(path, `${JSON.stringify({ header: { revision: 1 }, kvs, count: kvs.length })}\n`);
  return path;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kms-zones-'));
  socket = join(folder, 'kms.sock');
  first = await TestService.start();
  second = await startBeside(first);
  const made = await first.request('POST', '/v1/admin/keys', { name: KEY, suite: 'MLKEM768-P256' });
  if (made.status !== 201) throw new Error(made.bytes.toString());
  writeFileSync(tokenFile(), await first.token('user'), { mode: 0o600 });
  const header = `Authorization: Bearer ${await first.token('admin')}\n`;
  writeFileSync(join(folder, 'admin.header'), header, { mode: 0o600 });
}, 120_000);

afterAll(async () => {
  for (const server of servers) server.stop();
  await agent.stop();
  await second.destroy();
  await first.destroy();
  rmSync(folder, { recursive: true });
}, 60_000);

test('nothing is sealed before the provider is registered', async () => {
  agent = await startAgent();
  const client = new PluginClient(socket);
  await expect(client.status()).rejects.toThrow(/kms-plugin register/u);
  client.close();
  const { code, output } = await ran('register', ...about, ...operator());
  expect([code, output]).toEqual([0, expect.stringContaining('begins with version 1')]);
  expect((await ran('register', ...about, ...operator())).code).toBe(1);
}, 60_000);

test('a zone that hangs does not hold an API server up', async () => {
  let server: ApiServer | undefined;
  await eventually(async () => {
    server = await startServer().catch(() => undefined);
    return server !== undefined;
  }, 15_000);
  for (let n = 0; n < 20; n += 1)
    server?.put(`/registry/secrets/default/s${n}`, Buffer.from(`${n}`));
  first.child.kill('SIGSTOP');
  try {
    const began = performance.now();
    const fresh = await startServer();
    // Each call waits for the first zone once, at most.
    expect(performance.now() - began).toBeLessThan(3_000);
    expect((await fresh.get('/registry/secrets/default/s7')).toString()).toBe('7');
  } finally {
    first.child.kill('SIGCONT');
  }
}, 60_000);

test('a rotation is announced once both zones have it, and its old version is retired by proof alone', async () => {
  const server = await startServer();
  const before = server.keyId ?? '';
  const rotated = await first.request('POST', `/v1/admin/keys/${KEY}/rotate`, {});
  expect(rotated.status).toBe(200);
  await eventually(async () => (await readable(server)) && server.keyId !== before, 45_000);
  const retire = (key: string) =>
    ran('verify-rotation', '--dump', dump(), '--key-id', key, '--retire', ...about, ...operator());
  const early = await retire(before);
  expect([early.code, early.output]).toEqual([
    1,
    expect.stringContaining('REMAINS version 1: 20 values'),
  ]);
  await server.migrate();
  const done = await retire(before);
  expect([done.code, done.output]).toEqual([0, expect.stringContaining('are retired')]);
  expect((await retire(server.keyId ?? '')).code).toBe(1);
}, 90_000);

test('the doctor finds nothing wrong, and says what a value is under', async () => {
  const stored = etcd.get('/registry/secrets/default/s1');
  if (stored === undefined) throw new Error('no value');
  const value = join(folder, 'value');
  writeFileSync(value, Buffer.concat([etcdValue(encryptedObject(stored)), Buffer.from('\n')]));
  const config = join(folder, 'enc.yaml');
  writeFileSync(config, (await ran('config', '--socket', socket)).output, { mode: 0o600 });
  const asked = ['--socket', socket, '--config', config, '--value', value, ...about];
  const zones = ['--server', first.url, '--server', second.url, '--token-file', tokenFile()];
  const { code, output } = await ran('doctor', ...asked, ...zones);
  for (const what of ['socket', 'status', 'round trip', 'identity', 'configuration', 'value']) {
    expect(output).toMatch(new RegExp(`^ok +${what}: `, 'mu'));
  }
  expect(output).toMatch(/^ok +clock at /mu);
  expect(output).toMatch(/^ok +key at .*version 2 is announced; 1 retired, 2 active/mu);
  expect(output).toMatch(
    /value: sealed by kms v2 provider twofold, key_id tfk1\.\S+ \(version 2 of key /u,
  );
  // The role `user` is bound to no cluster.
  expect(output).toMatch(/^WRONG policy at .*bind it by a policy/mu);
  expect(code).toBe(1);
}, 60_000);

test('another agent waits for the socket, and has it as soon as the first has answered what was asked', async () => {
  const successor = startAgent();
  const client = new PluginClient(socket);
  const { keyId } = await client.status();
  const asked = Array.from({ length: 20 }, () => client.encrypt(Buffer.alloc(32, 6)));
  await Promise.race(asked);
  expect(await agent.stop()).toBe(0);
  for (const each of asked) expect((await each).keyId).toBe(keyId);
  agent = await successor;
  await eventually(() =>
    client.status().then(
      (status) => status.keyId === keyId,
      () => false,
    ),
  );
  client.close();
}, 60_000);

test('a provider ends once nothing in etcd is under its key, and begins anew with another version', async () => {
  const file = (name: string) => ['--dump', name, ...about, ...operator()];
  const early = await ran('unregister', ...file(dump()));
  expect([early.code, early.output]).toEqual([
    1,
    expect.stringContaining('REMAINS version 2: 20 values'),
  ]);
  etcd.clear();
  const empty = await ran('unregister', ...file(dump(false)));
  expect(empty.output).toContain('REMAINS nothing at all');
  etcd.set('/registry/secrets/default/other', {
    ...{ ciphertext: Buffer.alloc(48, 1), annotations: {}, data: Buffer.alloc(64, 1) },
    keyId: 'of-another-plugin',
  });
  const part = await ran('unregister', ...file(dump(false)));
  expect([part.code, part.output]).toEqual([1, expect.stringContaining('REMAINS no namespace')]);
  const done = await ran('unregister', ...file(dump()));
  expect([done.code, done.output]).toEqual([0, expect.stringContaining('has ended')]);
  const client = new PluginClient(socket);
  await eventually(async () => {
    const told = await client.status().catch((error: unknown) => error as Error);
    return !('healthz' in told) && told.message.includes('has ended');
  }, 20_000);
  const again = ['register', ...about, ...operator()] as const;
  expect((await ran(...again)).output).toContain('rotate the key first');
  await first.request('POST', `/v1/admin/keys/${KEY}/rotate`, {});
  expect((await ran(...again)).output).toContain('begins with version 3');
  const isWell = () =>
    client.status().then(
      ({ healthz }) => healthz === 'ok',
      () => false,
    );
  await eventually(isWell, 20_000);
  client.close();
}, 90_000);

test('where a rule asks others before protection goes, a retirement waits for them', async () => {
  const rule = { guards: ['keys.unprotect'], needed: 1, mayLockOut: true };
  const made = await first.request('PUT', '/v1/admin/approval-rules/protection', rule);
  expect(made.status).toBe(200);
  const end = ['unregister', '--dump', dump(), ...about, ...operator()];
  const asked = await ran(...end);
  const [, id = ''] = /add --approval (\S+)/u.exec(asked.output) ?? [];
  expect([asked.code, id]).toEqual([1, expect.stringMatching(/^[-0-9a-f]{36}$/u)]);
  expect((await ran(...end, '--approval', id)).output).toContain('approval_pending');
}, 60_000);
