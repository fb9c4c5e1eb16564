/** The socket and its server, with a service that does what a test wants. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';

import type { KeyManagement } from '../../src/kubernetes/key-management.ts';
import { KmsServer } from '../../src/kubernetes/server.ts';
import type { CallFigures, KmsServerOptions } from '../../src/kubernetes/server.ts';
import { servesAtLast } from '../../src/main/kubernetes.ts';
import { eventually } from '../store/eventually.ts';
import { PluginClient } from './apiserver.ts';

type Management = Pick<KeyManagement, 'status' | 'encrypt' | 'decrypt'>;

const SOCKET_MODULE = new URL('../../src/kubernetes/socket.ts', import.meta.url).href;

let folder: string;
let path: string;
const figures: CallFigures[] = [];
const undo: (() => Promise<void> | void)[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kms-'));
  path = join(folder, 'kms.sock');
  figures.length = 0;
});

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
  rmSync(folder, { recursive: true, force: true });
});

const management = (changes: Partial<Management> = {}): Management => ({
  status: () => Promise.resolve({ version: 'v2', healthz: 'ok', keyId: 'id' }),
  encrypt: () => Promise.resolve({ ciphertext: Uint8Array.of(1), keyId: 'id', annotations: {} }),
  decrypt: () => Promise.resolve({ plaintext: new Uint8Array(32).fill(7) }),
  ...changes,
});

const makeServer = (
  changes: Partial<Management> = {},
  options: Partial<KmsServerOptions> = {},
): KmsServer => {
  const server = new KmsServer({
    management: management(changes),
    path,
    group: null,
    observe: (call) => figures.push(call),
    onTrouble: () => undefined,
    ...options,
  });
  undo.push(() => server.stop());
  return server;
};

const client = (): PluginClient => {
  const plugin = new PluginClient(path);
  undo.push(() => plugin.close());
  return plugin;
};

const VALUE = { ciphertext: Uint8Array.of(1), keyId: 'id', annotations: {} };

test('the socket has its mode from the moment it has its name', async () => {
  await makeServer().serve();
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readdirSync(folder).toSorted()).toEqual(['kms.sock', 'kms.sock.lock']);
  expect((await client().status()).healthz).toBe('ok');
});

test('a group may connect where one is named', async () => {
  await makeServer({}, { group: process.getgid?.() ?? 0 }).serve();
  expect(statSync(path).mode & 0o777).toBe(0o660);
});

test('a successor waits, and the end of its predecessor leaves it its socket', async () => {
  const [first, second] = [
    makeServer(),
    makeServer({
      status: () => Promise.resolve({ version: 'v2', healthz: 'ok', keyId: 'second' }),
    }),
  ];
  await first.serve();
  let waiting = false;
  const taking = second.serve();
  void taking.then(() => (waiting = true));
  await sleep(200);
  expect([waiting, second.serves]).toEqual([false, false]);
  const plugin = client();
  expect((await plugin.status()).keyId).toBe('id');
  await first.stop();
  await taking;
  expect(existsSync(path)).toBe(true);
  await sleep(100);
  expect(existsSync(path)).toBe(true);
  const other = client();
  expect((await other.status()).keyId).toBe('second');
});

test('a stop while it waits leaves nothing behind, and the other serves on', async () => {
  const [first, second] = [makeServer(), makeServer()];
  await first.serve();
  const taking = second.serve().catch((error: unknown) => error);
  await sleep(100);
  await second.stop();
  expect(await taking).toMatchObject({ code: 'invalid_value' });
  expect(readdirSync(folder).toSorted()).toEqual(['kms.sock', 'kms.sock.lock']);
  expect((await client().status()).healthz).toBe('ok');
});

test('what is dead at the path is replaced; what is no socket, or is served, is not', async () => {
  writeFileSync(path, 'something');
  await expect(makeServer().serve()).rejects.toMatchObject({ code: 'conflict' });
  rmSync(path);
  mkdirSync(path);
  await expect(makeServer().serve()).rejects.toMatchObject({ code: 'conflict' });
  rmSync(path, { recursive: true });
  const other = createServer().listen(path);
  await new Promise((resolve) => other.once('listening', resolve));
  await expect(makeServer().serve()).rejects.toMatchObject({ code: 'conflict' });
  await new Promise((resolve) => other.close(resolve));
  const unlinked = createServer().listen(path);
  await new Promise((resolve) => unlinked.once('listening', resolve));
  // A process that was killed leaves its socket.
  await makeServer({}, { path: join(folder, 'other.sock') }).serve();
  await new Promise((resolve) => unlinked.close(resolve));
  await makeServer().serve();
  expect((await client().status()).healthz).toBe('ok');
});

test('inside the server the socket is tried again until nothing is in the way', async () => {
  rmSync(folder, { recursive: true });
  const server = makeServer();
  const said: unknown[] = [];
  const ending = new AbortController();
  const pauseMs = 20;
  const serving = servesAtLast(server, ending.signal, {
    pauseMs,
    onFailure: (error) => said.push((error as { code?: unknown }).code),
  });
  await eventually(() => Promise.resolve(said.length === 1));
  mkdirSync(folder);
  const other = createServer().listen(path);
  await eventually(() => Promise.resolve(said.length === 2));
  await sleep(5 * pauseMs);
  // Once for each cause, however often it was tried.
  expect(said).toEqual(['invalid_value', 'conflict']);
  await new Promise((resolve) => other.close(resolve));
  expect(await serving).toBe(true);
  expect((await client().status()).healthz).toBe('ok');
  expect(readdirSync(folder).toSorted()).toEqual(['kms.sock', 'kms.sock.lock']);
});

test('a stop ends the trying, and leaves nothing behind', async () => {
  writeFileSync(path, 'something');
  const server = makeServer();
  const ending = new AbortController();
  const failed = Promise.withResolvers<unknown>();
  const serving = servesAtLast(server, ending.signal, { onFailure: failed.resolve });
  await failed.promise;
  ending.abort();
  await server.stop();
  expect(await serving).toBe(false);
  expect(readdirSync(folder).toSorted()).toEqual(['kms.sock', 'kms.sock.lock']);
});

test('a program that hangs, its queue full, serves the path still', async () => {
  // Takes the path, and nobody who comes.
  const hanging = spawn(
    process.execPath,
    [
      '-e',
      `require('net').createServer().listen({ path: ${JSON.stringify(path)}, backlog: 1 }, () => {
        process.stdout.write('ready');
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30_000);
      })`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  undo.push(() => void hanging.kill('SIGKILL'));
  await once(hanging.stdout, 'data');
  const filling = Array.from({ length: 8 }, () => connect(path).on('error', () => undefined));
  undo.push(() => filling.forEach((socket) => socket.destroy()));
  await sleep(50);
  await expect(makeServer().serve()).rejects.toMatchObject({ code: 'conflict' });
});

test('a successor keeps its socket where the file of the lock was taken away meanwhile', async () => {
  const [first, second] = [
    makeServer(),
    makeServer({
      status: () => Promise.resolve({ version: 'v2', healthz: 'ok', keyId: 'second' }),
    }),
  ];
  await first.serve();
  // As whoever clears the folder does.
  rmSync(path);
  rmSync(`${path}.lock`);
  await second.serve();
  await first.stop();
  expect((await client().status()).keyId).toBe('second');
});

test('the group of the process itself is given without a right to give files away', () => {
  // What a unit's filter of system calls refuses.
  const script = `
    import fs from 'node:fs';
    import { syncBuiltinESMExports } from 'node:module';
    import { createServer } from 'node:net';
    fs.chownSync = () => { throw Object.assign(new Error('EPERM'), { code: 'EPERM' }); };
    syncBuiltinESMExports();
    const { serveSocket } = await import(${JSON.stringify(SOCKET_MODULE)});
    const server = createServer();
    const socket = { path: ${JSON.stringify(path)}, group: process.getgid(), onWaiting: () => undefined };
    const served = await serveSocket(server, socket, new AbortController().signal);
    console.log((fs.statSync(socket.path).mode & 0o777).toString(8));
    served.remove();
    served.close();
    server.close();
  `;
  const argv = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script];
  const { stdout, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8' });
  expect([stderr, stdout.trim()]).toEqual(['', '660']);
});

test('a folder that is not there, cannot be written to, or a path that is too long are named', async () => {
  const nowhere = join(folder, 'nowhere', 'kms.sock');
  await expect(makeServer({}, { path: nowhere }).serve()).rejects.toThrow('is not there');
  const long = join(folder, `${'x'.repeat(100)}.sock`);
  await expect(makeServer({}, { path: long }).serve()).rejects.toThrow('too long');
  chmodSync(folder, 0o700);
});

test('a stop lets the calls under way end, and answers them', async () => {
  const gate = Promise.withResolvers<undefined>();
  let begun = 0;
  const server = makeServer({
    decrypt: async () => {
      begun += 1;
      await gate.promise;
      return { plaintext: new Uint8Array(32).fill(7) };
    },
  });
  await server.serve();
  const plugin = client();
  await plugin.status();
  const calls = Array.from({ length: 20 }, () => plugin.decrypt(VALUE));
  await eventually(() => Promise.resolve(begun === 20));
  const stopping = server.stop();
  await sleep(100);
  gate.resolve(undefined);
  await stopping;
  const plain = await Promise.all(calls);
  expect(plain.every((each) => each.length === 32 && each[0] === 7)).toBe(true);
  expect(existsSync(path)).toBe(false);
});

test('connections that send nothing, or junk, are ended and keep nobody out', async () => {
  const server = makeServer({}, { connections: { prefaceMs: 300, idleMs: 60_000, lookMs: 50 } });
  await server.serve();
  const plugin = client();
  await plugin.status();
  const junk: Socket[] = Array.from({ length: 200 }, (_, n) => {
    const socket = connect(path);
    socket.on('error', () => undefined).resume();
    if (n % 2 === 0) socket.write('GET / HTTP/1.1\r\n\r\n');
    return socket;
  });
  const closed = junk.map((socket) => new Promise((resolve) => socket.once('close', resolve)));
  await Promise.all(Array.from({ length: 20 }, () => plugin.status()));
  expect((await client().status()).healthz).toBe('ok');
  await Promise.all(closed);
  await eventually(() => Promise.resolve(server.connections <= 2));
  // Long after the time in which it had to begin.
  await sleep(500);
  expect((await plugin.status()).healthz).toBe('ok');
});

/** A client that is thrown out comes back without a word, so its connections are counted on the way. */
async function counted() {
  const relayed = join(folder, 'relayed.sock');
  const [accepted, closed]: [Socket[], Socket[]] = [[], []];
  const relay = createServer((from) => {
    accepted.push(from);
    const to = connect(path);
    from.on('error', () => undefined).once('close', () => to.destroy());
    to.on('error', () => undefined).once('close', () => {
      closed.push(from);
      from.destroy();
    });
    from.pipe(to).pipe(from);
  }).listen(relayed);
  await once(relay, 'listening');
  const plugin = new PluginClient(relayed);
  undo.push(() => {
    plugin.close();
    relay.close();
  });
  return { plugin, counts: () => [accepted.length, closed.length] };
}

test('a connection that began in time is kept, and is not one after another', async () => {
  const server = makeServer({}, { connections: { prefaceMs: 150, idleMs: 60_000, lookMs: 20 } });
  await server.serve();
  const { plugin, counts } = await counted();
  for (let asked = 0; asked < 3; asked += 1) {
    expect((await plugin.status()).healthz).toBe('ok');
    // Looked at several times, and long after the time in which it had to begin.
    await sleep(300);
  }
  expect([...counts(), server.connections]).toEqual([1, 0, 1]);
});

test('junk does not take the place of a connection that is silent between two questions', async () => {
  const server = makeServer(
    {},
    { connections: { prefaceMs: 60_000, idleMs: 60_000, lookMs: 60_000 } },
  );
  await server.serve();
  const { plugin, counts } = await counted();
  await plugin.status();
  const junk = Array.from({ length: 300 }, () =>
    connect(path)
      .on('error', () => undefined)
      .resume(),
  );
  await eventually(() => Promise.resolve(junk.filter(({ closed }) => closed).length >= 200));
  expect((await plugin.status()).healthz).toBe('ok');
  expect(counts()).toEqual([1, 0]);
  for (const socket of junk) socket.destroy();
});

test('of too many connections those go that were silent longest', async () => {
  const server = makeServer(
    {},
    { connections: { prefaceMs: 60_000, idleMs: 60_000, lookMs: 60_000 } },
  );
  await server.serve();
  const silent = Array.from({ length: 100 }, () => connect(path).on('error', () => undefined));
  const plugin = client();
  expect((await plugin.status()).healthz).toBe('ok');
  expect(server.connections).toBeLessThanOrEqual(16);
  for (const socket of silent) socket.destroy();
});

test('one that comes when all places are taken by those that spoke has a place', async () => {
  const server = makeServer(
    {},
    { connections: { prefaceMs: 60_000, idleMs: 60_000, lookMs: 60_000 } },
  );
  await server.serve();
  const taken = Array.from({ length: 16 }, () => client());
  await Promise.all(taken.map((plugin) => plugin.status()));
  expect(server.connections).toBe(16);
  for (let n = 0; n < 5; n += 1) expect((await client().status()).healthz).toBe('ok');
  expect(server.connections).toBeLessThanOrEqual(16);
});

test('a request that is larger than any can be is refused, and the connection serves on', async () => {
  await makeServer().serve();
  const plugin = client();
  const large = plugin.decrypt({ ...VALUE, ciphertext: new Uint8Array(1_000_000) });
  await expect(large).rejects.toMatchObject({ code: 8 });
  expect((await plugin.status()).healthz).toBe('ok');
});

test('figures name method and code; what fails for us says nothing of how', async () => {
  await makeServer({ decrypt: () => Promise.reject(new Error('a secret detail')) }).serve();
  const plugin = client();
  await plugin.status();
  await expect(plugin.decrypt(VALUE)).rejects.toMatchObject({
    code: 13,
    details: 'internal: An internal error.',
  });
  expect(figures.map(({ method, code }) => [method, code])).toEqual([
    ['Status', 'OK'],
    ['Decrypt', 'INTERNAL'],
  ]);
});
