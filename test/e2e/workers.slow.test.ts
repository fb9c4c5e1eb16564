/** Workers and supervisors that are killed: what is lost, and what comes back. */
import { renameSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterEach, expect, it } from '@jest/globals';

import { brokenChains } from '../audit/instances.ts';
import { makeCertificate } from '../config/certificate.ts';
import { eventually } from '../store/eventually.ts';
import { entriesAfter, withDatabaseOf } from './inspection.ts';
import { killAll, leftOf, ofProcess } from './processes.ts';
import { TestService } from './service.ts';
import { Line, allReady, metric, startWorkers, workerPids, workersOf } from './worker-service.ts';

const plaintext = Buffer.from('a data key of a checkpoint').toString('base64');
const LINES = 16;

let service: TestService | undefined;

afterEach(async () => {
  await service?.destroy();
  if (service !== undefined) expect(await leftOf(service.dataDir)).toEqual([]);
  service = undefined;
});

/** A request whose connection broke under it; the lane of the answer before it names the worker. */
interface Broken {
  readonly line: number;
  /** Null for the first request of a connection. */
  readonly lane: string | null;
}

/** Requests one after the other on each line until stopped; a broken line is opened anew. */
class Load {
  readonly auditIds: string[] = [];
  readonly refused: unknown[] = [];
  readonly broken: Broken[] = [];
  #running = true;
  readonly #lines: readonly Promise<void>[];

  constructor(at: TestService, path: string, body: object) {
    this.#lines = Array.from({ length: LINES }, (_, line) => this.#work(line, at, path, body));
  }

  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#lines);
  }

  async #work(number: number, at: TestService, path: string, body: object): Promise<void> {
    let line = new Line(at);
    let lane: string | null = null;
    while (this.#running) {
      try {
        const { status, auditId, json } = await line.post(path, body);
        lane = auditId?.split('-')[0] ?? null;
        if (status === 200 && auditId !== null) this.auditIds.push(auditId);
        else this.refused.push(json);
      } catch {
        this.broken.push({ line: number, lane });
        lane = null;
        line.close();
        line = new Line(at);
        await sleep(1);
      }
    }
    line.close();
  }
}

/** Of a service that has stopped or goes on: every entry, and what is wrong with the chains. */
const auditOf = (at: TestService) =>
  withDatabaseOf(at.dataDir, async (client) => {
    const entries = await entriesAfter(client, 0);
    return { ids: new Set(entries.map(({ id }) => id)), broken: brokenChains(entries) };
  });

it('a worker that is killed under load loses the requests in it and no others, and is replaced', async () => {
  service = await startWorkers(2);
  await service.request('POST', '/v1/admin/keys', { name: 'k', suite: 'MLKEM768-P256' });
  const { json } = await service.request('POST', '/v1/keys/k/wrap', { plaintext });
  const load = new Load(service, '/v1/keys/k/unwrap', { ciphertext: json['ciphertext'] });
  const counted = () =>
    metric(service as TestService, 'twofold_http_request_seconds_count', /route="unwrap"/u);
  try {
    for (let round = 1; round <= 4; round += 1) {
      await sleep(700);
      const before = await counted();
      const [known, answered] = [load.broken.length, load.auditIds.length];
      const [victim] = workerPids(service);
      if (victim === undefined) throw new Error('no worker runs');
      process.kill(victim, 'SIGKILL');
      // The other has the connections meanwhile.
      await eventually(() => Promise.resolve(load.auditIds.length > answered + 100));
      const broken = load.broken.slice(known);
      expect(broken.length).toBeGreaterThan(0);
      if (round === 1) expect(broken).toHaveLength(LINES / 2);
      // One request of each connection that the dead one had, and none while a connection is new.
      expect(new Set(broken.map(({ line }) => line)).size).toBe(broken.length);
      expect(broken.map(({ lane }) => lane)).toEqual(broken.map(() => broken[0]?.lane ?? ''));
      // What it counted until it was last asked stays counted.
      expect(await counted()).toBeGreaterThanOrEqual(before);
      await allReady(service, 2);
    }
  } finally {
    await load.stop();
  }
  expect(load.refused).toEqual([]);
  const running = service;
  // The last one is counted once its successor is there.
  const restarts = async () =>
    (await workersOf(running)).reduce((sum, worker) => sum + worker.restarts, 0);
  await eventually(async () => (await restarts()) >= 4);
  expect(await restarts()).toBe(4);
  const { ids, broken } = await auditOf(service);
  expect(broken).toEqual([]);
  expect(load.auditIds.filter((id) => !ids.has(id))).toEqual([]);
  expect(load.auditIds.length).toBeGreaterThan(4 * 100);
}, 180_000);

it('workers of a supervisor that is killed stop by themselves, and a start right after serves', async () => {
  service = await startWorkers(2);
  const { dataDir } = service;
  await service.request('POST', '/v1/admin/keys', { name: 'k', suite: 'A256GCM' });
  const { json } = await service.request('POST', '/v1/keys/k/wrap', { plaintext });
  const workers = workerPids(service);
  const { port } = new URL(service.url);
  await service.kill();
  // The same port, too: workers hold no listening socket.
  service = await startWorkers(2, { dataDir, environment: { TWOFOLD_PORT: port } });
  for (const pid of workers) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  const opened = await service.request('POST', '/v1/keys/k/unwrap', {
    ciphertext: json['ciphertext'],
  });
  expect(opened.json).toMatchObject({ plaintext });
  // In order: their rows are closed, and each lane of theirs has its last entry.
  const open = await withDatabaseOf(dataDir, async (client) => {
    const { rows } = await client.query<{ count: number }>(
      'select count(*)::int as count from public.instance where not closed',
    );
    return rows[0]?.count;
  });
  expect(open).toBe(2);
  const fewer = service;
  await fewer.stop();
  service = await TestService.start({ dataDir });
  expect(await service.stop()).toBe(0);
}, 120_000);

it('workers that keep ending end the service, with a word', async () => {
  service = await startWorkers(2);
  const at = service;
  const killing = setInterval(() => {
    for (const pid of workerPids(at)) process.kill(pid, 'SIGKILL');
  }, 50);
  try {
    await eventually(() => Promise.resolve(!at.running), 60_000);
  } finally {
    clearInterval(killing);
  }
  expect(at.child.exitCode).toBe(1);
  expect(at.output).toMatch(/worker \d ended 5 times in a row, the last time by SIGKILL/u);
  expect(await leftOf(at.dataDir)).toEqual([]);
}, 120_000);

it('a start that cannot succeed says why once, and leaves nothing', async () => {
  const taken = await TestService.start();
  service = taken;
  const { port } = new URL(taken.url);
  await expect(startWorkers(2, { environment: { TWOFOLD_PORT: port } })).rejects.toThrow(
    /the http listener cannot start: 127\.0\.0\.1:\d+ is in use by another process/iu,
  );
}, 60_000);

it('a service that is killed whole starts again', async () => {
  service = await startWorkers(2);
  const { dataDir } = service;
  await killAll(dataDir);
  service = await startWorkers(2, { dataDir });
  expect((await service.request('GET', '/v1/whoami')).status).toBe(200);
}, 120_000);

it('a worker that is fenced leaves its clients to the others', async () => {
  service = await startWorkers(2);
  const lines = Array.from({ length: 4 }, () => new Line(service as TestService));
  for (const line of lines) expect((await line.get('/v1/whoami')).status).toBe(200);
  const [fenced] = await workersOf(service);
  await withDatabaseOf(service.dataDir, (client) =>
    client.query('update public.instance set fenced = true where id = $1', [fenced?.instance]),
  );
  await allReady(service, 1);
  const at = service;
  await eventually(async () => {
    const { json } = await at.request('GET', '/readyz', undefined, { role: null });
    expect(json['ready']).toBe(true);
    return (json['workers'] as { ready: number }).ready === 1;
  });
  const first = await Promise.all(lines.map((line) => line.get('/v1/whoami')));
  expect(first.map(({ status }) => status).toSorted()).toEqual([200, 200, 503, 503]);
  const then = await Promise.all(lines.map((line) => line.get('/v1/whoami')));
  expect(then.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  // The page is read once a second at most, and may be from before.
  await eventually(async () => {
    const states = (await workersOf(at)).map(({ ready, state }) => `${ready} ${state}`);
    return states.toSorted().join() === 'false fenced,true ok';
  });
  for (const line of lines) line.close();
}, 120_000);

it('workers speak TLS, and wait together for an HSM that is away', async () => {
  const first = await TestService.start();
  const { dataDir } = first;
  await first.stop();
  const { certificate, key } = makeCertificate();
  const files = { cert: join(dataDir, 'server.pem'), key: join(dataDir, 'server.key') };
  writeFileSync(files.cert, certificate);
  writeFileSync(files.key, key, { mode: 0o600 });
  const environment = {
    TWOFOLD_HTTP_TLS_CERT_FILE: files.cert,
    TWOFOLD_HTTP_TLS_KEY_FILE: files.key,
  };
  const pin = join(dataDir, 'hsm', 'user.pin');
  renameSync(pin, `${pin}.away`);
  const args = ['--workers', '2'];
  const at = await TestService.start({ dataDir, environment, args, ready: false });
  service = at;
  await at.untilOutput(/The HSM is not ready/u);
  expect(workerPids(at)).toHaveLength(1);
  renameSync(`${pin}.away`, pin);
  await at.untilReady();
  await allReady(at, 2);
  expect(at.url).toMatch(/^https:/u);
  const statuses = await Promise.all(
    Array.from({ length: 8 }, () => securedStatus(`${at.url}/readyz`, certificate)),
  );
  expect(statuses).toEqual(statuses.map(() => 200));
}, 120_000);

/** Over a connection of its own. */
const securedStatus = (url: string, ca: string): Promise<number> => {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  get(url, { ca, agent: false }, (response) => {
    response.resume();
    resolve(response.statusCode ?? 0);
  }).once('error', reject);
  return promise;
};

it('a third signal ends workers with their supervisor, at once', async () => {
  service = await startWorkers(2, { environment: { TWOFOLD_STOP_WAIT_MS: '60000' } });
  const workers = workerPids(service);
  for (let signals = 0; service.running; signals += 1) {
    if (signals > 3) throw new Error('it goes on');
    service.child.kill('SIGINT');
    // What follows within a second counts as one; SIGSTOP keeps the workers from ending in order.
    for (const pid of workers) if (signals === 0) process.kill(pid, 'SIGSTOP');
    await sleep(1_100);
  }
  expect(service.child.exitCode).toBe(1);
  const ended = () => workers.every((pid) => ofProcess(pid, 'cmdline') === '');
  await eventually(() => Promise.resolve(ended()));
}, 60_000);
