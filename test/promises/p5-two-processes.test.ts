/**
 * P5 with two processes: one changes keys, the other is under load. They share the database and the
 * token, and tell each other nothing. TWOFOLD_TEST_SEED repeats a run.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { startBeside } from '../e2e/beside.ts';
import { testSeed } from '../e2e/kill-driver.ts';
import { leftOf } from '../e2e/processes.ts';
import { TestService } from '../e2e/service.ts';
import { seeded } from '../store/embedded-harness.ts';

const random = seeded(testSeed());
const ROUNDS = 12;
const plaintext = Buffer.from('a data key of a checkpoint').toString('base64');
const message = Buffer.from('a manifest').toString('base64');

let changer: TestService;
let user: TestService;

beforeAll(async () => {
  changer = await TestService.start();
  user = await startBeside(changer);
}, 180_000);

afterAll(async () => {
  await user.destroy();
  await changer.destroy();
  expect(await leftOf(user.dataDir)).toEqual([]);
  expect(await leftOf(changer.dataDir)).toEqual([]);
});

interface Request {
  readonly begun: number;
  readonly ended: number;
  readonly status: number;
  readonly json: Record<string, unknown>;
}

/** Repeats a request on the second service, several at a time, until stopped. */
class Load {
  readonly requests: Request[] = [];
  readonly #path: string;
  readonly #body: object;
  #running = true;
  #workers: Promise<unknown> = Promise.resolve();

  constructor(path: string, body: object) {
    this.#path = path;
    this.#body = body;
  }

  start(workers: number): this {
    const work = async (): Promise<void> => {
      while (this.#running) {
        const begun = performance.now();
        const { status, json } = await user.request('POST', this.#path, this.#body);
        // A machine under load may keep a call from the HSM; that says nothing about the state.
        if (json.code === 'hsm_busy') continue;
        this.requests.push({ begun, ended: performance.now(), status, json });
      }
    };
    this.#workers = Promise.all(Array.from({ length: workers }, work));
    return this;
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#workers;
  }

  /** Those that began after `from` and were answered before `to`. */
  within(from: number, to: number): Request[] {
    return this.requests.filter(({ begun, ended }) => begun > from && ended < to);
  }

  /** Waits until some requests began and ended since `from`. */
  async seen(from: number, count: number): Promise<void> {
    while (this.within(from, Infinity).length < count) await sleep(2);
  }
}

/** When a change was sent and when it had answered. */
interface Change {
  readonly sent: number;
  readonly answered: number;
  readonly json: Record<string, unknown>;
}

async function change(path: string, body: object): Promise<Change> {
  const sent = performance.now();
  const { status, json } = await changer.request('POST', path, body);
  expect({ path, status, code: json.code }).toEqual({ path, status: 200, code: undefined });
  return { sent, answered: performance.now(), json };
}

async function create(name: string, suite: string): Promise<void> {
  const { status } = await changer.request('POST', '/v1/admin/keys', { name, suite });
  expect(status).toBe(201);
}

async function wrapped(key: string): Promise<string> {
  const { json } = await user.request('POST', `/v1/keys/${key}/wrap`, { plaintext });
  return String(json['ciphertext']);
}

/** What happened while the change stood and while it was undone. */
interface Spans {
  readonly stopped: Request[];
  readonly resumed: Request[];
}

/** Suspends and resumes under load; every span has requests that began and ended in it. */
async function suspendAndResume(path: string, loads: readonly Load[]): Promise<Spans> {
  const spans: Spans = { stopped: [], resumed: [] };
  let resumed: Change | undefined;
  for (let round = 0; round < ROUNDS; round += 1) {
    await sleep(random() * 60);
    const suspended = await change(`${path}/suspend`, { reason: 'a drill' });
    if (resumed !== undefined) {
      const { answered } = resumed;
      spans.resumed.push(...loads.flatMap((load) => load.within(answered, suspended.sent)));
    }
    await Promise.all(loads.map((load) => load.seen(suspended.answered, 2)));
    resumed = await change(`${path}/resume`, { reason: 'the drill is over' });
    const { sent, answered } = resumed;
    spans.stopped.push(...loads.flatMap((load) => load.within(suspended.answered, sent)));
    await Promise.all(loads.map((load) => load.seen(answered, 2)));
  }
  return spans;
}

const outcomes = (requests: readonly Request[]): unknown[] => [
  ...new Set(
    requests.map(
      ({ status, json }) => `${status} ${typeof json['code'] === 'string' ? json['code'] : 'ok'}`,
    ),
  ),
];

async function drill(path: string, loads: readonly Load[]): Promise<void> {
  for (const load of loads) load.start(2);
  const spans = await suspendAndResume(path, loads).finally(() =>
    Promise.all(loads.map((load) => load.stop())),
  );
  process.stdout.write(
    `${path}: ${spans.stopped.length} refused, ${spans.resumed.length} served\n`,
  );
  expect(spans.stopped.length).toBeGreaterThanOrEqual(2 * ROUNDS);
  expect(outcomes(spans.stopped)).toEqual(['409 version_not_usable']);
  expect(spans.resumed.length).toBeGreaterThanOrEqual(2 * (ROUNDS - 1));
  expect(outcomes(spans.resumed)).toEqual(['200 ok']);
}

describe('P5: what one process has changed binds the other at once', () => {
  it('no unwrap succeeds after a key is suspended, every one after it is resumed', async () => {
    await create('held', 'MLKEM768-P256');
    const ciphertext = await wrapped('held');
    await drill('/v1/admin/keys/held', [new Load('/v1/keys/held/unwrap', { ciphertext })]);
  }, 240_000);

  it('no signature is made after a key is suspended', async () => {
    await create('signer', 'MLDSA65-ECDSA-P256-SHA512');
    await drill('/v1/admin/keys/signer', [new Load('/v1/keys/signer/sign', { message })]);
  }, 240_000);

  it('suspending one version stops that version alone', async () => {
    await create('versions', 'MLKEM768-X25519');
    const old = await wrapped('versions');
    await change('/v1/admin/keys/versions/rotate', {});
    const current = await wrapped('versions');
    const other = new Load('/v1/keys/versions/unwrap', { ciphertext: current }).start(1);
    await drill('/v1/admin/keys/versions/versions/1', [
      new Load('/v1/keys/versions/unwrap', { ciphertext: old }),
    ]).finally(() => other.stop());
    expect(outcomes(other.requests)).toEqual(['200 ok']);
  }, 240_000);

  it('a wrap that begins after a rotation uses the new version', async () => {
    await create('rotated', 'MLKEM768-P256');
    const load = new Load('/v1/keys/rotated/wrap', { plaintext }).start(3);
    const rotations: Change[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const rotation = await change('/v1/admin/keys/rotated/rotate', {});
      rotations.push(rotation);
      await load.seen(rotation.answered, 3);
      await sleep(random() * 40);
    }
    await load.stop();
    expect(outcomes(load.requests)).toEqual(['200 ok']);
    for (const { answered, json } of rotations) {
      const after = load.within(answered, Infinity).map((wrap) => Number(wrap.json['keyVersion']));
      expect(after.length).toBeGreaterThanOrEqual(3);
      expect(Math.min(...after)).toBeGreaterThanOrEqual(Number(json['primary']));
    }
  }, 240_000);

  it('a key that one makes is there for the other at once, by its name and its id', async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      const name = `fresh-${round}`;
      // Asked before, so that its absence might have been remembered.
      expect((await user.request('GET', `/v1/keys/${name}`)).json.code).toBe('key_not_found');
      const body = { name, suite: 'A256GCM' };
      const made = await changer.request('POST', '/v1/admin/keys', body);
      const found = await user.request('GET', `/v1/keys/${name}`);
      expect({ status: found.status, id: found.json['id'] }).toEqual({
        status: 200,
        id: made.json['id'],
      });
      expect((await user.request('POST', `/v1/keys/${name}/wrap`, { plaintext })).status).toBe(200);
    }
  }, 120_000);
});
