/**
 * The grace on a replicated database: a fail-over pauses no unwrap for long, and an instance that a change
 * cannot reach (on a primary that nobody stopped, or stopped itself) answers nothing once the change is
 * acknowledged (promise P5).
 */
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { ZONES } from './cluster.ts';
import type { Cluster, Zone } from './cluster.ts';
import type { ZoneService } from './zone-service.ts';
import { Zones } from './zones.ts';

const GRACE_MS = 20_000;
/** Longer than an instance waits for a commit before it answers without. */
const LATE_FOR_SURE_MS = 2_000;
const plaintext = Buffer.from('a data key').toString('base64');

let zones: Zones;
let cluster: Cluster;
const service = (zone: Zone): ZoneService => zones.service(zone);
const otherThan = (zone: Zone): ZoneService => service(ZONES.find((one) => one !== zone) ?? zone);

beforeAll(async () => {
  zones = await Zones.up({ TWOFOLD_ZONE_GRACE_MS: String(GRACE_MS) });
  ({ cluster } = zones);
}, 180_000);

afterAll(async () => {
  await zones.down();
}, 60_000);

async function wrappedBy(one: ZoneService, name: string): Promise<string> {
  await eventually(async () => {
    const made = await one.request('POST', '/v1/admin/keys', { name, suite: 'MLKEM768-P256' });
    expect(made.json.code ?? 'key_exists').toBe('key_exists');
  });
  const wrapped = await one.request('POST', `/v1/keys/${name}/wrap`, { plaintext });
  expect(wrapped.status).toBe(200);
  return String(wrapped.json['ciphertext']);
}

async function eventually(holds: () => Promise<void> | void): Promise<void> {
  const until = performance.now() + 60_000;
  for (;;) {
    try {
      await holds();
      return;
    } catch (error) {
      if (performance.now() > until) throw error;
      await sleep(200);
    }
  }
}

/** Unwraps at one zone, with the times at which answers came. */
class Unwraps {
  readonly answered: number[] = [];
  readonly refused = new Map<string, number>();
  readonly #one: ZoneService;
  readonly #path: string;
  readonly #ciphertext: string;
  readonly #callers: Promise<unknown>;
  #running = true;

  constructor(one: ZoneService, name: string, ciphertext: string) {
    this.#one = one;
    this.#path = `/v1/keys/${name}/unwrap`;
    this.#ciphertext = ciphertext;
    this.#callers = Promise.all([1, 2, 3].map(() => this.#call()));
  }

  async #call(): Promise<void> {
    while (this.#running) {
      const answer = await this.#one
        .request('POST', this.#path, { ciphertext: this.#ciphertext })
        .catch(() => null);
      if (answer?.status === 200) {
        expect(answer.json['plaintext']).toBe(plaintext);
        this.answered.push(performance.now());
      } else {
        const code = answer?.json.code ?? 'no answer';
        this.refused.set(code, (this.refused.get(code) ?? 0) + 1);
        await sleep(50);
      }
      await sleep(5);
    }
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#callers;
  }

  /** Without an answer, from the last one before `from` to `until`, which count where no answer came. */
  longestPause(from: number, until: number): number {
    const before = this.answered.findLast((time) => time <= from) ?? from;
    const within = this.answered.filter((time) => time > from && time < until);
    const edges = [before, ...within, until];
    return Math.max(...edges.slice(1).map((time, at) => time - (edges[at] ?? time)));
  }

  after(time: number): number {
    return this.answered.filter((each) => each > time).length;
  }
}

const suspend = (one: ZoneService, name: string) =>
  one.request('POST', `/v1/admin/keys/${name}/suspend`, { reason: 'a test' });

it('unwraps never pause for longer than a second while the primary is replaced', async () => {
  const lost = await cluster.leader();
  const [one, other] = ZONES.filter((zone) => zone !== lost).map(service);
  if (one === undefined || other === undefined) throw new Error('no other zones');
  const ciphertext = await wrappedBy(one, 'going-on');
  await eventually(async () => {
    const opened = await other.request('POST', '/v1/keys/going-on/unwrap', { ciphertext });
    expect(opened.status).toBe(200);
  });
  const loads = [one, other].map((each) => new Unwraps(each, 'going-on', ciphertext));
  await sleep(2_000);
  const killed = performance.now();
  cluster.signal(lost, 'SIGKILL');
  await eventually(async () => {
    expect(await cluster.leaderSeenFrom(one.zone)).not.toBe(lost);
  });
  await sleep(5_000);
  const end = performance.now();
  await Promise.all(loads.map((load) => load.stop()));
  for (const load of loads) {
    const { answered, refused } = load;
    const longestPause = load.longestPause(killed, end);
    process.stderr.write(
      `unwraps in a fail-over: ${String(answered.length)} answered, longest pause ` +
        `${longestPause.toFixed(0)} ms, refused ${JSON.stringify([...refused])}\n`,
    );
    expect(longestPause).toBeLessThan(1_000);
  }
  cluster.restore(lost);
  await service(lost).start();
  await cluster.healthy();
}, 240_000);

it('an instance on a primary that nobody stopped answers nothing after a suspension', async () => {
  const stale = await cluster.leader();
  await service(stale).stop();
  const late = await zones.replace(stale, cluster.directUrl(stale));
  const ciphertext = await wrappedBy(late, 'on-a-stale-primary');
  const unwraps = new Unwraps(late, 'on-a-stale-primary', ciphertext);
  await sleep(1_000);
  cluster.signalPart(stale, 'patroni', 'SIGSTOP');
  let acknowledged = 0;
  try {
    const other = otherThan(stale);
    await eventually(async () => {
      expect(await cluster.leaderSeenFrom(other.zone)).not.toBe(stale);
    });
    await eventually(async () => {
      const answer = await suspend(other, 'on-a-stale-primary').catch(() => null);
      expect(answer?.status).toBe(200);
    });
    acknowledged = performance.now();
    await sleep(3_000);
  } finally {
    cluster.signalPart(stale, 'patroni', 'SIGCONT');
  }
  await cluster.healthy();
  await sleep(2_000);
  await unwraps.stop();
  expect(unwraps.answered.length).toBeGreaterThan(50);
  expect(unwraps.after(acknowledged)).toBe(0);
  await late.stop();
  await zones.replace(stale);
}, 240_000);

it('an instance that was stopped answers nothing after a suspension', async () => {
  const [one, other] = [service(1), service(2)];
  const ciphertext = await wrappedBy(one, 'stopped');
  const unwraps = new Unwraps(other, 'stopped', ciphertext);
  await eventually(() => {
    expect(unwraps.answered.length).toBeGreaterThan(20);
  });
  const stopped = performance.now();
  other.signal('SIGSTOP');
  let acknowledged = 0;
  try {
    await eventually(async () => {
      const answer = await suspend(one, 'stopped').catch(() => null);
      expect(answer?.status).toBe(200);
    });
    acknowledged = performance.now();
    // What it has in flight is late by then, so that it would answer without a commit if its lease ran on.
    await sleep(LATE_FOR_SURE_MS);
  } finally {
    other.signal('SIGCONT');
  }
  await sleep(5_000);
  await unwraps.stop();
  // Nobody could tell the change to it: it was acknowledged once its lease was over.
  expect(acknowledged - stopped).toBeGreaterThan(GRACE_MS);
  expect(unwraps.after(acknowledged)).toBe(0);
}, 120_000);
