/**
 * What else goes on in the grace, with real processes: verifications, and what API servers have a Kubernetes
 * provider open. And the other way to lose PostgreSQL: killed, and not back for a while.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { isAnonymous } from '../../src/contract/route.ts';
import { ROUTES } from '../../src/contract/routes.ts';
import { withChildren } from '../e2e/processes.ts';
import { TestService } from '../e2e/service.ts';
import { PluginClient } from '../kubernetes/apiserver.ts';
import type { Encrypted } from '../kubernetes/apiserver.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { eventually } from '../store/eventually.ts';
import { withClient } from '../store/owner.ts';
import { healthOf, untilReady } from './load.ts';
import { PLAINTEXT, Unwraps, faultsOf, verifiedLive } from './grace-world.ts';

const GRACE_MS = 8_000;
const SEEDS = 40;

let folder: string;
let database: TestDatabase;
let service: TestService;
let plugin: PluginClient;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-grace-kms-'));
  database = await startTestDatabase();
  service = await TestService.start({
    environment: {
      DATABASE_URL: database.appUrl,
      TWOFOLD_DATABASE_OWNER_URL: database.ownerUrl,
      TWOFOLD_ZONE_GRACE_MS: String(GRACE_MS),
      TWOFOLD_KMS_SOCKET: join(folder, 'kms.sock'),
      TWOFOLD_KMS_KEY: 'secrets',
      TWOFOLD_KMS_SUITE: 'MLKEM768-P256',
    },
  });
  plugin = new PluginClient(join(folder, 'kms.sock'));
}, 120_000);
afterAll(async () => {
  plugin.close();
  await service.destroy();
  await database.stop();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

const post = (path: string, body: object) => service.request('POST', path, body);

const ADMIN = ROUTES.filter(({ path }) => path.startsWith('/v1/admin/')).filter(
  (route) => !isAnonymous(route),
);

/** What every route under /v1/admin answers; no input of theirs is looked at before. */
const adminAnswers = (): Promise<readonly string[]> =>
  Promise.all(
    ADMIN.map(async ({ id, method, path }) => {
      const to = path.replace('{key}', 'signer').replaceAll(/\{\w+\}/gu, '1');
      const { status, json, headers } = await service.request(method, to);
      return `${id} ${String(status)} ${String(json.code)} ${String(headers.get('retry-after'))}`;
    }),
  );

/** Acts again and again until stopped, and knows when it was answered. */
class Loop {
  readonly answered: number[] = [];
  readonly failed: string[] = [];
  readonly #over: Promise<void>;
  #running = true;

  constructor(act: (turn: number) => Promise<void>) {
    this.#over = this.#run(act);
  }

  async #run(act: (turn: number) => Promise<void>): Promise<void> {
    for (let turn = 0; this.#running; turn += 1) {
      try {
        await act(turn);
        this.answered.push(performance.now());
      } catch (error) {
        this.failed.push(String(error));
        await sleep(50);
      }
      await sleep(5);
    }
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#over;
  }

  between(from: number, until: number): readonly number[] {
    return this.answered.filter((time) => time > from && time < until);
  }

  /** The longest time without an answer, from `from` to `until`. */
  pause(from: number, until: number): number {
    const points = [from, ...this.between(from, until), until];
    return Math.max(...points.slice(1).map((point, at) => point - (points[at] ?? 0)));
  }
}

interface Logged {
  readonly operation: string;
  readonly outcome: string;
  /** Of an API server's request, which its entry names. */
  readonly uid: unknown;
  readonly id: string;
}

const logged = (): Promise<readonly Logged[]> =>
  withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<{ lane: number; n: string; body: Buffer }>(
      'select lane, n, body from public.entry',
    );
    return rows.map(({ lane, n, body }) => {
      const { operation, outcome, detail } = decodeEntry(Uint8Array.from(body));
      return { operation, outcome, uid: detail['uid'], id: `${String(lane)}-${n}` };
    });
  });

it('verifications go on, Kubernetes has its seeds opened, each with one entry afterwards; no change is made', async () => {
  const made = { name: 'signer', suite: 'MLDSA65-ECDSA-P256-SHA512' };
  expect((await post('/v1/admin/keys', made)).status).toBe(201);
  const message = Buffer.from('signed before').toString('base64');
  const { json: signed } = await post('/v1/keys/signer/sign', { message });
  const { signature } = signed;
  await eventually(async () => {
    const status = await plugin.status().catch(() => null);
    return status?.healthz === 'ok';
  }, 20_000);
  const seeds: Encrypted[] = [];
  for (let n = 0; n < SEEDS; n += 1) seeds.push(await plugin.encrypt(Buffer.alloc(32, n)));

  const verified: string[] = [];
  const verifying = new Loop(async () => {
    const answer = await post('/v1/keys/signer/verify', { message, signature });
    if (answer.status !== 200) throw new Error(String(answer.json.code));
    expect(answer.json['valid']).toBe(true);
    verified.push(answer.headers.get('twofold-audit-id') ?? '');
  });
  const opened: string[] = [];
  // Half of the seeds are opened for the first time while nothing can be committed.
  let known = SEEDS / 2;
  const opening = new Loop(async (turn) => {
    const n = turn % known;
    const uid = randomUUID();
    const plaintext = await plugin.decrypt(seeds[n] as Encrypted, uid);
    expect(Buffer.from(plaintext)).toEqual(Buffer.alloc(32, n));
    opened.push(uid);
  });
  await eventually(() => Promise.resolve(opening.answered.length > SEEDS), 20_000);

  const frozen = withChildren(database.pid());
  for (const pid of frozen) process.kill(pid, 'SIGSTOP');
  const at = performance.now();
  let until = at;
  try {
    await sleep(1_200);
    known = SEEDS;
    const status = await plugin.status();
    const refused = await post('/v1/keys/signer/sign', { message });
    const sealed = await plugin.encrypt(Buffer.alloc(32, 1)).catch(String);
    expect(status.healthz).toBe('ok');
    expect([refused.status, refused.json.code]).toEqual([503, 'read_only_grace']);
    expect(sealed).toMatch(/cached reads/u);
    const refusals = ADMIN.map(({ id }) => `${id} 503 read_only_grace 1`);
    expect(await adminAnswers()).toEqual(refusals);
    expect(await healthOf(service)).toMatchObject({ status: 200, states: { database: 'grace' } });
    await sleep(Math.max(0, at + 2_800 - performance.now()));
    until = performance.now();
  } finally {
    for (const pid of frozen) process.kill(pid, 'SIGCONT');
  }
  await untilReady(service);
  await Promise.all([verifying.stop(), opening.stop()]);

  for (const loop of [verifying, opening]) {
    expect(loop.pause(at, until)).toBeLessThan(1_500);
    expect(loop.between(at + 700, until).length).toBeGreaterThan(50);
    expect(loop.failed).toEqual([]);
  }
  // The service is ready again before the last entry of its spool is in the log.
  await eventually(async () => {
    const all = await logged();
    const has = (what: string) =>
      all.filter(({ operation, outcome }) => operation === what && outcome === 'ok').length;
    return has('verify') >= verified.length && has('unwrap') >= opened.length;
  }, 30_000);
  const entries = (await logged()).filter(({ outcome }) => outcome === 'ok');
  const ids = entries.filter(({ operation }) => operation === 'verify').map(({ id }) => id);
  expect(new Set(verified).size).toBe(verified.length);
  expect(ids.toSorted()).toEqual(verified.toSorted());
  // The provider's own probes have no such name.
  const uids = entries.filter(
    (each) => each.operation === 'unwrap' && typeof each.uid === 'string',
  );
  expect(uids.map(({ uid }) => uid).toSorted()).toEqual(opened.toSorted());
  expect(await verifiedLive(service, database.ownerUrl)).toBe('verified');
}, 120_000);

/** Takes the port of a server that was just killed, so that it does not come back; nobody is answered. */
async function occupied(port: number): Promise<Server> {
  for (let attempt = 0; ; attempt += 1) {
    const server = createServer((socket) => socket.destroy());
    try {
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
      return server;
    } catch (error) {
      if (attempt === 200) throw error;
      await sleep(1);
    }
  }
}

it('unwraps go on when PostgreSQL is killed, and every entry is there when it is back', async () => {
  const made = { name: 'killed', suite: 'MLKEM768-P256' };
  expect((await post('/v1/admin/keys', made)).status).toBe(201);
  const wrapped = await post('/v1/keys/killed/wrap', { plaintext: PLAINTEXT });
  const unwraps = new Unwraps(service, 'killed', String(wrapped.json['ciphertext']));
  await eventually(async () => unwraps.answered.length > 20, 20_000);
  const old = database.pid();
  for (const pid of withChildren(old)) process.kill(pid, 'SIGKILL');
  const at = performance.now();
  const squatter = await occupied(database.port);
  try {
    await sleep(at + 1_600 - performance.now());
    expect(database.pid()).toBe(old);
    expect(await healthOf(service)).toMatchObject({ status: 200, states: { database: 'grace' } });
    const refused = await post('/v1/admin/keys', { name: 'more', suite: 'A256GCM' });
    expect([refused.status, refused.json.code]).toEqual([503, 'read_only_grace']);
  } finally {
    squatter.close();
  }
  await eventually(() => Promise.resolve(database.pid() !== old), 20_000);
  const back = performance.now();
  await untilReady(service);
  await sleep(300);
  await unwraps.stop();

  const within = Math.min(back, at + GRACE_MS - 500);
  expect(unwraps.pause(at, within)).toBeLessThan(1_500);
  const late = unwraps.answered.filter(({ ended }) => ended > at + 700 && ended < within);
  expect(late.length).toBeGreaterThan(50);
  const faults = () => faultsOf(database.ownerUrl, unwraps.answered);
  await eventually(async () => (await faults()).length === 0, 30_000);
  expect(await faults()).toEqual([]);
  expect(await verifiedLive(service, database.ownerUrl)).toBe('verified');
  process.stderr.write(
    `killed for ${(back - at).toFixed(0)} ms: unwraps paused ${unwraps.pause(at, within).toFixed(0)} ms at most\n`,
  );
}, 120_000);
