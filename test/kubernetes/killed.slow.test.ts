/**
 * Both forms with real processes, whose service is killed and replaced while an API server works: a worker that
 * has the socket, the whole service, the agent; and the HSM away. What an API server gets meanwhile may be a
 * failure, but never one that it waits 3 s for, and never another key_id.
 */
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';

import { allReady, startWorkers, workerPids } from '../e2e/worker-service.ts';
import { TestService } from '../e2e/service.ts';
import { eventually } from '../store/eventually.ts';
import { ApiServer, CALL_MS } from './apiserver.ts';
import type { Encrypted, Etcd, StoredObject } from './apiserver.ts';
import { KmsPlugin } from './kms-plugin.ts';

/** UNAVAILABLE, DEADLINE_EXCEEDED: of the provider's own deadline, below the API server's. */
const IN_TIME = [14, 4];
const BACK_MS = 30_000;
/** Of the machine that the test runs on. */
const SLACK_MS = 2_000;

let folder: string;
const undo: (() => unknown)[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kms-killed-'));
  undo.push(() => rmSync(folder, { recursive: true }));
});
afterAll(async () => {
  for (const step of undo.reverse()) await step();
}, 60_000);

/** An API server that works on: a fresh seed and a sealed one, again and again, with what each call took. */
class Work {
  readonly #server: ApiServer;
  readonly #etcd: Etcd;
  readonly #ending = new AbortController();
  readonly #lanes: readonly Promise<void>[];
  readonly keyIds = new Set<string>();
  answered = 0;
  failed = 0;
  longestMs = 0;

  constructor(server: ApiServer, etcd: Etcd) {
    this.#server = server;
    this.#etcd = etcd;
    this.#lanes = Array.from({ length: 4 }, () => this.#lane());
  }

  async #lane(): Promise<void> {
    const [stored] = this.#etcd.values();
    if (stored === undefined) throw new Error('nothing is stored');
    while (!this.#ending.signal.aborted) {
      await this.#timed(() => this.#server.plugin.decrypt(stored));
      await this.#timed(async () => {
        const { keyId } = await this.#server.plugin.encrypt(Buffer.alloc(32, 5));
        this.keyIds.add(keyId);
      });
    }
  }

  async #timed(call: () => Promise<unknown>): Promise<void> {
    const began = performance.now();
    try {
      await call();
      this.answered += 1;
    } catch {
      this.failed += 1;
      // As an API server that was refused does not ask again at once.
      await sleep(20);
    }
    this.longestMs = Math.max(this.longestMs, performance.now() - began);
  }

  /** Ends it; nothing was waited for longer than an API server waits. */
  async end(): Promise<void> {
    this.#ending.abort();
    await Promise.all(this.#lanes);
    expect(this.longestMs).toBeLessThan(CALL_MS + SLACK_MS);
    expect(this.keyIds).toEqual(new Set([this.#server.keyId]));
  }
}

const started = async (socket: string, etcd: Etcd): Promise<ApiServer> => {
  const server = new ApiServer(socket, etcd);
  undo.push(() => server.stop());
  await eventually(async () => {
    await server.poll();
    return server.health === null;
  }, BACK_MS);
  return server;
};
const well = (server: ApiServer) =>
  eventually(async () => {
    await server.poll();
    return server.health === null;
  }, BACK_MS);

/** Runs `strike` while an API server works; it works on afterwards, and a new one reads all there is. */
async function strikes(server: ApiServer, etcd: Etcd, strike: () => Promise<void>): Promise<Work> {
  const work = new Work(server, etcd);
  const { keyId } = server;
  await eventually(() => Promise.resolve(work.answered > 10));
  await strike();
  await well(server);
  const before = work.answered;
  await eventually(() => Promise.resolve(work.answered > before + 10), BACK_MS);
  await work.end();
  expect(server.keyId).toBe(keyId);
  return work;
}

const readsAll = async (socket: string, etcd: Etcd): Promise<void> => {
  const fresh = await started(socket, etcd);
  for (const name of etcd.keys()) expect(Buffer.from(await fresh.get(name)).toString()).toBe(name);
};

describe('inside the service', () => {
  const etcd: Etcd = new Map<string, StoredObject>();
  let socket: string;
  let service: TestService;
  let server: ApiServer;
  const args = () => ['--kms-socket', socket, '--kms-key', 'secrets'];

  beforeAll(async () => {
    socket = join(folder, 'in-server.sock');
    service = await startWorkers(2, { args: args() });
    undo.push(() => service.destroy());
    server = await started(socket, etcd);
    for (const name of ['a', 'b', 'c']) server.put(name, Buffer.from(name));
  }, 90_000);

  test('a worker that has the socket is killed, and another one has it', async () => {
    // One of the two has it.
    const work = await strikes(server, etcd, async () => {
      const [victim] = workerPids(service);
      process.kill(victim ?? 0, 'SIGKILL');
      await allReady(service, 2);
      const [, other] = workerPids(service).toSorted((a, b) => b - a);
      process.kill(other ?? 0, 'SIGKILL');
      await allReady(service, 2);
    });
    expect(work.failed).toBeGreaterThan(0);
    await readsAll(socket, etcd);
  }, 90_000);

  test('the service is killed and started again', async () => {
    const { dataDir } = service;
    await strikes(server, etcd, async () => {
      await service.kill();
      service = await TestService.start({ dataDir, args: args() });
    });
    await readsAll(socket, etcd);
  }, 90_000);

  test('the HSM is away: what it has to open is refused in time, and opened when it is back', async () => {
    const values: Encrypted[] = [];
    for (let n = 0; n < 4; n += 1) {
      values.push(await server.plugin.encrypt(Buffer.alloc(32, 1 + n)));
    }
    const tokens = join(service.dataDir, 'hsm/tokens');
    const away = `${tokens}.away`;
    renameSync(tokens, away);
    mkdirSync(tokens);
    try {
      // SoftHSM has in memory what it opened: only a new object makes it look at its disk.
      const key = { name: 'notices', suite: 'MLKEM768-P256' };
      expect((await service.request('POST', '/v1/admin/keys', key)).status).toBe(503);
      const began = performance.now();
      const failure = server.plugin.encrypt(Buffer.alloc(32, 9)).catch((error: unknown) => error);
      const told = server.plugin.status();
      expect(IN_TIME).toContain(((await failure) as { code?: number }).code);
      // A fail-over may take 30 s: so long Status says what it said.
      expect(await told).toMatchObject({ version: 'v2', keyId: server.keyId });
      expect(performance.now() - began).toBeLessThan(CALL_MS + SLACK_MS);
    } finally {
      rmSync(tokens, { recursive: true });
      renameSync(away, tokens);
    }
    await eventually(
      () =>
        server.plugin.decrypt(values[0] as Encrypted).then(
          (seed) => seed.length === 32,
          () => false,
        ),
      BACK_MS,
    );
    await well(server);
    await readsAll(socket, etcd);
  }, 90_000);
});

describe('the agent', () => {
  const etcd: Etcd = new Map<string, StoredObject>();
  const about = ['--key', 'cluster', '--cluster', 'c1'];
  let socket: string;
  let service: TestService;
  let server: ApiServer;
  const agents: KmsPlugin[] = [];
  const startAgent = () => {
    const own = ['--socket', socket, '--token-file', join(folder, 'token')];
    const agent = new KmsPlugin(folder, ['serve', ...own, '--server', service.url, ...about]);
    agents.push(agent);
    return agent;
  };

  beforeAll(async () => {
    socket = join(folder, 'agent.sock');
    service = await TestService.start();
    undo.push(() => service.destroy());
    undo.push(() => Promise.all(agents.map((agent) => agent.stop())));
    await service.request('POST', '/v1/admin/keys', { name: 'cluster', suite: 'MLKEM768-P256' });
    writeFileSync(join(folder, 'token'), await service.token('user'), { mode: 0o600 });
    const labels = { 'kubernetes/c1': 'provider=twofold announced=1' };
    await service.request('PATCH', '/v1/admin/keys/cluster', { labels });
    await startAgent().until('serving ');
    server = await started(socket, etcd);
    for (const name of ['a', 'b', 'c']) server.put(name, Buffer.from(name));
  }, 90_000);

  test('the service is killed and replaced while the agent lives on', async () => {
    const { dataDir, url } = service;
    await strikes(server, etcd, async () => {
      await service.kill();
      service = await TestService.start({
        dataDir,
        environment: { TWOFOLD_PORT: new URL(url).port },
      });
    });
    await readsAll(socket, etcd);
  }, 90_000);

  test('the agent is killed, and one that waits has its socket', async () => {
    const successor = startAgent();
    await strikes(server, etcd, async () => {
      await agents[0]?.stop('SIGKILL');
      await successor.until('serving ');
    });
    await readsAll(socket, etcd);
  }, 90_000);
});
