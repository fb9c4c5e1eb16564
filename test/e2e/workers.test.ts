/** Two workers behind one address: what they share out, and what they do as one. */
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { eventually } from '../store/eventually.ts';
import { leftOf, ofProcess } from './processes.ts';
import type { TestService } from './service.ts';
import { Line, allReady, metric, startWorkers, workerPids, workersOf } from './worker-service.ts';

const plaintext = Buffer.from('a data key of a checkpoint').toString('base64');
const suite = 'MLKEM768-P256';

let service: TestService;
let lines: readonly Line[];

beforeAll(async () => {
  service = await startWorkers(2);
  lines = Array.from({ length: 8 }, () => new Line(service));
}, 120_000);

afterAll(async () => {
  for (const line of lines) line.close();
  await service.destroy();
  expect(await leftOf(service.dataDir)).toEqual([]);
});

/** Each worker writes lanes of its own. */
const laneOf = ({ auditId }: { readonly auditId: string | null }) => auditId?.split('-')[0];

it('share out connections that stay open, and say how many of them are ready', async () => {
  for (const line of lines) expect((await line.get('/v1/whoami')).status).toBe(200);
  // One of them has the connection that asks; the page shows what is a second old at most.
  const open = async () =>
    (await workersOf(service)).map(({ connections }) => connections).toSorted();
  await eventually(async () => String(await open()) === '4,5');
  const workers = await workersOf(service);
  expect(workers.map(({ ready, state, restarts }) => [ready, state, restarts])).toEqual([
    [true, 'ok', 0],
    [true, 'ok', 0],
  ]);
  expect(new Set(workers.map(({ instance }) => instance)).size).toBe(2);
  const { json } = await service.request('GET', '/readyz', undefined, { role: null });
  expect(json).toMatchObject({ ready: true, workers: { ready: 2, of: 2 } });
});

it('are each as hardened as a process that is alone', () => {
  const pids = workerPids(service);
  expect(pids).toHaveLength(2);
  for (const pid of pids) {
    expect(ofProcess(pid, 'cmdline')).toContain('--disable-sigusr1');
    expect(ofProcess(pid, 'limits')).toMatch(/^Max core file size +0 +0 /mu);
  }
});

it('act at once on a suspension that went through the other (P5)', async () => {
  const [one, other] = lines;
  if (one === undefined || other === undefined) throw new Error('no lines');
  for (let round = 0; round < 10; round += 1) {
    const key = `p5-${round}`;
    expect((await one.post('/v1/admin/keys', { name: key, suite })).status).toBe(201);
    const { json } = await one.post(`/v1/keys/${key}/wrap`, { plaintext });
    const unwrap = (line: Line) =>
      line.post(`/v1/keys/${key}/unwrap`, { ciphertext: json['ciphertext'] });
    // Both have it in their caches.
    const [mine, theirs] = [await unwrap(one), await unwrap(other)];
    expect([mine.status, theirs.status]).toEqual([200, 200]);
    expect(laneOf(mine)).not.toBe(laneOf(theirs));
    const [from, at] = round % 2 === 0 ? [one, other] : [other, one];
    const suspended = await from.post(`/v1/admin/keys/${key}/suspend`, { reason: 'test' });
    expect(suspended.status).toBe(200);
    expect((await unwrap(at)).json).toMatchObject({ status: 409, code: 'version_not_usable' });
  }
});

it('show one set of metrics, in which each request counts once', async () => {
  const count = () => metric(service, 'twofold_http_request_seconds_count', /route="whoami"/u);
  const seen = await count();
  for (const line of lines) for (let n = 0; n < 5; n += 1) await line.get('/v1/whoami');
  expect((await count()) - seen).toBe(40);
  expect(await metric(service, 'twofold_uptime_seconds', /worker="2"/u)).toBeGreaterThan(0);
  expect(await metric(service, 'twofold_build_info')).toBe(1);
});

it('take over each other’s connections: one that a frozen worker has not taken loses no request', async () => {
  const [victim] = workerPids(service);
  if (victim === undefined) throw new Error('no worker runs');
  let killed = false;
  const kill = () => (killed ||= process.kill(victim, 'SIGKILL'));
  const fresh = Array.from({ length: 6 }, () => new Line(service));
  try {
    process.kill(victim, 'SIGSTOP');
    const answers = fresh.map((line) => line.get('/v1/whoami'));
    // Half of them are the other's, which answers; the rest wait for one that will never take them.
    await Promise.race(answers);
    // Once that shows, all that is new goes to the other. (Each stands for a turn.)
    await sleep(1_100);
    for (let turn = 0; turn < 3; turn += 1) {
      const line = new Line(service);
      fresh.push(line);
      expect((await line.get('/v1/whoami')).status).toBe(200);
    }
    // The page of the frozen one is missing; the whole is shown all the same.
    for (let turn = 0; turn < 2; turn += 1) expect(await workersOf(service)).toHaveLength(2);
    kill();
    const statuses = (await Promise.all(answers)).map(({ status }) => status);
    expect(statuses).toEqual(answers.map(() => 200));
  } finally {
    // Also after a failure: a service waits for the ends of its workers.
    kill();
    for (const line of fresh) line.close();
  }
  await allReady(service, 2);
}, 60_000);

it('stop in order and leave nothing running', async () => {
  // A terminal's Ctrl-C goes to all of them.
  for (const pid of workerPids(service)) process.kill(pid, 'SIGINT');
  expect(await service.stop()).toBe(0);
  expect(await leftOf(service.dataDir, 0)).toEqual([]);
  const troubles = service.log
    .split('\n')
    .filter((line) => /"level":"(?:error|fatal)"/u.test(line));
  // The one that was killed.
  expect(troubles).toEqual([expect.stringContaining('"a worker ended"')]);
}, 30_000);
