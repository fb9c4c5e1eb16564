/** Requests of which a part is sent, and no more: what the server keeps of them is bounded, whoever sends. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';

import { KmsServer } from '../../src/kubernetes/server.ts';
import { eventually } from '../store/eventually.ts';
import { PluginClient } from './apiserver.ts';

const VALUE = { ciphertext: new Uint8Array(900), keyId: 'id', annotations: {} };
const SENT = 60_000;
/** Of parts of requests, over all connections. */
const BOUND = 16 * 1024 * 1024;

let folder: string;
let path: string;
let server: KmsServer;
let calls = 0;
const undo: (() => Promise<void> | void)[] = [];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kms-'));
  path = join(folder, 'kms.sock');
  calls = 0;
  server = new KmsServer({
    management: {
      status: () => Promise.resolve({ version: 'v2', healthz: 'ok', keyId: 'id' }),
      encrypt: () =>
        Promise.resolve({ ciphertext: Uint8Array.of(1), keyId: 'id', annotations: {} }),
      decrypt: async () => {
        calls += 1;
        await sleep(20);
        return { plaintext: new Uint8Array(32).fill(7) };
      },
    },
    ...{ path, group: null, observe: () => undefined, onTrouble: () => undefined },
  });
  await server.serve();
});

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

const client = (): PluginClient => {
  const plugin = new PluginClient(path, 60_000);
  undo.push(() => plugin.close());
  return plugin;
};

const HEADERS = {
  ':method': 'POST',
  ':path': '/v2.KeyManagementService/Decrypt',
  'content-type': 'application/grpc',
  te: 'trailers',
};

/** Of Decrypt: the frame of a message without any field. */
const emptyRequest = (): Buffer => Buffer.alloc(5);

/** A frame that announces 64,000 bytes, and of them so many. */
const partOf = (bytes: number): Buffer => {
  const part = Buffer.alloc(5 + bytes);
  part.writeUInt32BE(64_000, 1);
  return part;
};

interface Flood {
  readonly session: ClientHttp2Session;
  readonly streams: ClientHttp2Stream[];
}

/** One connection that begins so many requests and ends none. */
async function flood(count: number, headers: Record<string, string> = {}): Promise<Flood> {
  const socket = connect(path);
  const session = connectHttp2('http://localhost', { createConnection: () => socket });
  session.on('error', () => undefined);
  undo.push(() => session.destroy());
  await new Promise((resolve) => {
    session.once('remoteSettings', resolve).once('close', resolve);
  });
  const streams: ClientHttp2Stream[] = [];
  const all = { session, streams };
  begin(all, count, headers);
  return all;
}

/** So many requests more on a connection, of which none is ended. */
function begin({ session, streams }: Flood, count: number, headers: Record<string, string> = {}) {
  for (let n = 0; n < count && !session.destroyed; n += 1) {
    const stream = session.request({ ...HEADERS, ...headers });
    stream.on('error', () => undefined).resume();
    stream.write(partOf(SENT));
    streams.push(stream);
  }
}

/** Bytes that the server was sent of requests which are neither whole nor ended. */
const held = (floods: readonly Flood[]): number =>
  floods
    .filter(({ session }) => !session.destroyed)
    .flatMap(({ streams }) => streams)
    .filter((stream) => !stream.closed && !stream.pending && stream.writableLength === 0).length *
  SENT;

/** Which connections are ended, once one is and its client knows. */
async function endedOf(all: readonly Flood[]): Promise<boolean[]> {
  const ended = () => all.map(({ session }) => session.destroyed);
  await eventually(() => Promise.resolve(ended().includes(true)));
  expect(server.connections).toBe(all.length - 1);
  return ended();
}

/** Once the server has read what was sent, and from then on. */
async function expectBounded(all: readonly Flood[]): Promise<void> {
  await eventually(() => Promise.resolve(held(all) <= BOUND));
  await sleep(200);
  expect(held(all)).toBeLessThanOrEqual(BOUND);
}

const floods = async (count: number, each: number, headers: Record<string, string> = {}) => {
  const all: Flood[] = [];
  for (let n = 0; n < count; n += 1) all.push(await flood(each, headers));
  await sleep(500);
  return all;
};

test('of all connections together only so much is kept, and an API server goes on', async () => {
  const plugin = client();
  await plugin.status();
  await expectBounded(await floods(12, 250));
  // As at a restart, beside what is kept.
  const opened = await Promise.all(Array.from({ length: 1_000 }, () => plugin.decrypt(VALUE)));
  expect(opened.every((plaintext) => plaintext.length === 32)).toBe(true);
  expect(calls).toBe(1_000);
});

test('nor does a deadline of its own let a sender have more kept', async () => {
  await expectBounded(await floods(12, 250, { 'grpc-timeout': '1m' }));
});

test('an API server is never ended for what others do not finish', async () => {
  const plugin = client();
  await plugin.status();
  const ended = new AbortController();
  const others = (async () => {
    while (!ended.signal.aborted) await flood(100);
  })();
  try {
    for (let burst = 0; burst < 20; burst += 1) {
      // Larger than any that the service makes.
      const large = { ...VALUE, annotations: { 'a.example': new Uint8Array(4_000) } };
      await Promise.all(Array.from({ length: 60 }, () => plugin.decrypt(large)));
    }
  } finally {
    ended.abort();
    await others;
  }
  expect(calls).toBe(1_200);
});

test('where nobody waits for long yet, the connection goes that has most under way, not the last to come', async () => {
  const most = [await flood(128), await flood(127)];
  const last = await flood(2);
  expect(await endedOf([...most, last])).toEqual([true, false, false]);
});

test('a time in which the service itself could not read makes nobody a sender of halves', async () => {
  const most = [await flood(0), await flood(0)] as const;
  const whole = await flood(60);
  const half = await flood(30);
  while (held([whole, half]) < 90 * SENT) await turn();
  // Longer than one may wait, of which the process reads only now and then.
  for (let busy = 0; busy < 12; busy += 1) {
    const until = performance.now() + 120;
    while (performance.now() < until);
    await turn();
  }
  begin(most[0], 110);
  begin(most[1], 100);
  expect(await endedOf([whole, half, ...most])).toEqual([false, false, true, false]);
});

test('whole requests that come at once are no unfinished ones, however few others have', async () => {
  const whole = await flood(0);
  const halves = await Promise.all(Array.from({ length: 15 }, () => flood(14)));
  const answered: string[] = [];
  for (let n = 0; n < 100; n += 1) {
    const stream = whole.session.request(HEADERS);
    stream.on('error', () => undefined).resume();
    stream.once('trailers', (trailers) => answered.push(String(trailers['grpc-status'])));
    stream.end(emptyRequest());
  }
  await eventually(() => Promise.resolve(whole.session.destroyed || answered.length === 100));
  expect(answered).toEqual(Array.from({ length: 100 }, () => '0'));
  expect(halves.filter(({ session }) => session.destroyed)).toEqual([]);
});

test('one that sends its requests slowly, but whole, is answered', async () => {
  const { streams } = await flood(20);
  await sleep(300);
  for (const stream of streams) stream.end(Buffer.alloc(64_000 - SENT));
  await eventually(() => Promise.resolve(streams.every(({ closed }) => closed)));
  expect(server.connections).toBe(1);
});
