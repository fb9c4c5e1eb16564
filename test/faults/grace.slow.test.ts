/**
 * The grace with real processes: while PostgreSQL hangs or is gone unwraps go on for so long and no longer,
 * their entries come back once each, also those of a process that was killed; and a change is acknowledged
 * only when an instance that cannot be reached can answer no more (promise P5).
 */
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';

import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { MARGIN_MS } from '../../src/audit/grace/waiting.ts';
import { START_AGAIN } from '../../src/main/exit.ts';
import { startBeside } from '../e2e/beside.ts';
import { TestService } from '../e2e/service.ts';
import { metric } from '../e2e/worker-service.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { eventually } from '../store/eventually.ts';
import { withClient } from '../store/owner.ts';
import { startRelay } from '../store/relay.ts';
import type { Relay } from '../store/relay.ts';
import { healthOf, untilReady } from './load.ts';
import { Freezer, PLAINTEXT, Unwraps, faultsOf, verifiedLive } from './grace-world.ts';

const GRACE_MS = 3_000;

let database: TestDatabase;
let relay: Relay;
let service: TestService;
const environment = () => ({
  DATABASE_URL: database.appUrl,
  TWOFOLD_DATABASE_OWNER_URL: database.ownerUrl,
  TWOFOLD_ZONE_GRACE_MS: String(GRACE_MS),
  TWOFOLD_STOP_DRAIN_MS: '2000',
});
const { freeze, thaw } = new Freezer(() => database.pid());

async function wrappedBy(name: string): Promise<string> {
  const made = { name, suite: 'MLKEM768-P256' };
  expect((await service.request('POST', '/v1/admin/keys', made)).status).toBe(201);
  const { json } = await service.request('POST', `/v1/keys/${name}/wrap`, { plaintext: PLAINTEXT });
  return String(json['ciphertext']);
}

const writtenKeys = (): Promise<readonly string[]> =>
  withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<{ name: string }>('select name from key');
    return rows.map(({ name }) => name);
  });

const revisionOf = async (name: string): Promise<unknown> =>
  (await service.request('GET', `/v1/keys/${name}`)).json['revision'];

const spoolOf = ({ dataDir }: TestService): string[] => {
  try {
    return readdirSync(join(dataDir, 'spool'));
  } catch {
    return [];
  }
};

beforeAll(async () => {
  database = await startTestDatabase();
  relay = await startRelay(database.port);
  service = await TestService.start({ environment: environment() });
}, 120_000);
afterEach(() => thaw());
afterAll(async () => {
  await service.destroy();
  await relay.close();
  await database.stop();
}, 60_000);

describe('a database that hangs', () => {
  it('leaves unwraps under way for the grace and not longer, and has every entry afterwards', async () => {
    const ciphertext = await wrappedBy('hung');
    const unwraps = new Unwraps(service, 'hung', ciphertext);
    await eventually(async () => unwraps.answered.length > 20, 20_000);
    freeze();
    const at = performance.now();
    await sleep(1_200);
    const refused = await Promise.all([
      service.request('POST', '/v1/keys/hung/wrap', { plaintext: PLAINTEXT }),
      service.request('POST', '/v1/admin/keys', { name: 'more', suite: 'A256GCM' }),
      service.request('POST', '/v1/admin/keys/hung/suspend', { reason: 'x' }),
    ]);
    for (const { status, json, headers } of refused) {
      expect([status, json.code]).toEqual([503, 'read_only_grace']);
      expect(headers.get('retry-after')).toBe('1');
    }
    const health = await healthOf(service);
    expect(health).toMatchObject({ status: 200, states: { database: 'grace', audit: 'spool' } });
    expect(await metric(service, 'twofold_grace_mode', /"grace"/u)).toBe(1);
    expect(await metric(service, 'twofold_audit_spooled_entries')).toBeGreaterThan(20);
    await sleep(at + GRACE_MS + 1_000 - performance.now());
    expect((await healthOf(service)).status).toBe(503);
    expect(await metric(service, 'twofold_grace_mode', /"over"/u)).toBe(1);
    thaw();
    await untilReady(service);
    await eventually(async () => spoolOf(service).length === 0, 20_000);
    await sleep(300);
    await unwraps.stop();

    expect(unwraps.pause(at, at + GRACE_MS - 1_200)).toBeLessThan(1_500);
    const inGrace = unwraps.answered.filter(({ ended }) => ended > at + 700);
    const late = inGrace.filter(({ ended }) => ended > at + GRACE_MS + 100);
    expect(inGrace.length - late.length).toBeGreaterThan(50);
    // Those after the end are those after the return.
    expect(unwraps.pause(at + GRACE_MS, at + GRACE_MS + 1_000)).toBeGreaterThan(600);
    expect(await faultsOf(database.ownerUrl, unwraps.answered)).toEqual([]);
    expect(await verifiedLive(service, database.ownerUrl)).toBe('verified');
  }, 120_000);
});

describe('a process that ends in the grace', () => {
  it.each<'kill' | 'stop'>(['kill', 'stop'])(
    'by %s leaves its entries to the next one',
    async (way) => {
      const name = `ended-by-${way}`;
      const ciphertext = await wrappedBy(name);
      const unwraps = new Unwraps(service, name, ciphertext);
      await eventually(async () => unwraps.answered.length > 20, 20_000);
      freeze();
      await sleep(2_000);
      const answered = unwraps.answered.length;
      await service[way]();
      await unwraps.stop();
      expect(answered).toBeGreaterThan(20);
      expect(spoolOf(service)).toHaveLength(1);
      thaw();
      const { dataDir } = service;
      service = await TestService.start({ dataDir, environment: environment() });
      await untilReady(service);
      expect(spoolOf(service)).toEqual([]);
      expect(await faultsOf(database.ownerUrl, unwraps.answered)).toEqual([]);
      expect(await verifiedLive(service, database.ownerUrl)).toBe('verified');
    },
    120_000,
  );
});

describe('a spool that was altered after its process was killed', () => {
  const told = (): Promise<readonly unknown[]> =>
    withClient(database.ownerUrl, async (client) => {
      const { rows } = await client.query<{ body: Buffer }>(
        "select body from entry where operation = 'audit.spool' order by at",
      );
      return rows.map(({ body }) => decodeEntry(body).detail);
    });

  it('is kept, and the audit log says so once', async () => {
    const ciphertext = await wrappedBy('altered');
    const unwraps = new Unwraps(service, 'altered', ciphertext);
    await eventually(async () => unwraps.answered.length > 20, 20_000);
    freeze();
    await sleep(2_000);
    await service.kill();
    await unwraps.stop();
    const [name = ''] = spoolOf(service);
    const path = join(service.dataDir, 'spool', name);
    const bytes = readFileSync(path);
    // In the first record's payload.
    bytes[60] = (bytes[60] ?? 0) ^ 1;
    writeFileSync(path, bytes);
    thaw();
    const { dataDir } = service;
    const before = await told();
    for (let start = 1; start <= 2; start += 1) {
      service = await TestService.start({ dataDir, environment: environment() });
      await untilReady(service);
      expect((await told()).slice(before.length)).toEqual([
        { file: name, lane: expect.any(Number) as unknown, entries: 0, state: 'damaged' },
      ]);
      expect(spoolOf(service)).toEqual([
        expect.stringMatching(/\.spool\.kept-\d+-damaged-0\.told$/u),
      ]);
      if (start === 1) await service.kill();
    }
    rmSync(join(dataDir, 'spool'), { recursive: true });
  }, 120_000);
});

describe('an instance that nobody can reach', () => {
  it('answers nothing more when a suspension is acknowledged, ends, and brings its entries back', async () => {
    const ciphertext = await wrappedBy('cut');
    const through = { ...environment(), DATABASE_URL: relay.url(database.appUrl) };
    let other = await startBeside(service, through);
    try {
      const unwraps = new Unwraps(other, 'cut', ciphertext);
      await eventually(async () => unwraps.answered.length > 20, 20_000);
      relay.muteAnswers();
      const at = performance.now();
      await sleep(1_500);
      const { status } = await service.request('POST', '/v1/admin/keys/cut/suspend', {
        reason: 'x',
      });
      const acknowledged = performance.now();
      expect(status).toBe(200);
      expect(acknowledged - at).toBeGreaterThan(GRACE_MS);
      expect(acknowledged - at).toBeLessThan(GRACE_MS + MARGIN_MS + 3_500);
      // Whoever suspends another key waits for nobody any more.
      const began = performance.now();
      await wrappedBy('other');
      expect(performance.now() - began).toBeLessThan(GRACE_MS);
      await sleep(500);
      relay.unmute();
      await eventually(async () => !other.running, 30_000);
      await unwraps.stop();
      // For who keeps it running: it is to be started again, and serves.
      expect(other.child.exitCode).toBe(START_AGAIN);
      other = await startBeside(service, through, other.dataDir);
      await untilReady(other);
      expect(spoolOf(other)).toEqual([]);
      const after = unwraps.answered.filter(({ ended }) => ended > acknowledged);
      expect(after).toEqual([]);
      expect(unwraps.answered.filter(({ ended }) => ended > at + 700).length).toBeGreaterThan(20);
      expect(await faultsOf(database.ownerUrl, unwraps.answered)).toEqual([]);
    } finally {
      await other.kill();
      await other.destroy();
    }
    expect(await verifiedLive(service, database.ownerUrl)).toBe('verified');
  }, 120_000);

  it('that is killed is fenced by the next change, after its grace', async () => {
    const other = await startBeside(service, environment());
    await wrappedBy('matched');
    await other.kill();
    const began = performance.now();
    const change = async () => {
      const body = { name: 'after-a-kill', suite: 'A256GCM' };
      const headers = { 'Idempotency-Key': 'after-a-kill' };
      const answer = await service.request('POST', '/v1/admin/keys', body, { headers });
      return { answer, after: performance.now() - began };
    };
    // Of a change with If-Match the caller does not wait for the answer, and says the same again.
    const patch = async (signal: AbortSignal) => {
      const { status } = await fetch(new URL('/v1/admin/keys/matched', service.url), {
        method: 'PATCH',
        headers: {
          Authorization: `Bearer ${await service.token('admin')}`,
          'Content-Type': 'application/json',
          'If-Match': '"1"',
        },
        body: JSON.stringify({ labels: { a: '1' } }),
        signal,
      });
      return { status, after: performance.now() - began };
    };
    const given = new AbortController();
    const unheard = patch(given.signal).catch(() => null);
    const first = change();
    await eventually(async () => (await writtenKeys()).includes('after-a-kill'), 10_000);
    await eventually(async () => (await revisionOf('matched')) === 2, 10_000);
    given.abort();
    expect(await unheard).toBeNull();
    const matched = patch(AbortSignal.timeout(60_000));
    // It is written, but may not hold everywhere: who repeats it by its key hears no sooner.
    const repeated = await change();
    expect(repeated.answer.headers.get('idempotency-replayed')).toBe('true');
    for (const { answer, after } of [await first, repeated]) {
      expect(answer.status).toBe(201);
      expect(after).toBeGreaterThan(GRACE_MS);
    }
    const { status, after } = await matched;
    expect(status).toBe(412);
    expect(after).toBeGreaterThan(GRACE_MS);
    const { rows } = await withClient(database.ownerUrl, (client) =>
      client.query('select 1 from instance where fenced'),
    );
    expect(rows.length).toBeGreaterThan(0);
    await other.destroy();
  }, 120_000);

  it('confirms a change within a moment while it can be reached', async () => {
    const other = await startBeside(service, environment());
    await wrappedBy('confirmed');
    const times: number[] = [];
    for (let round = 0; round < 10; round += 1) {
      const began = performance.now();
      const path = `/v1/admin/keys/confirmed/${round % 2 === 0 ? 'suspend' : 'resume'}`;
      expect((await service.request('POST', path, { reason: 'x' })).status).toBe(200);
      times.push(performance.now() - began);
    }
    const median = times.toSorted((a, b) => a - b)[5] ?? Infinity;
    process.stderr.write(`a change waits ${median.toFixed(1)} ms with one other instance\n`);
    expect(median).toBeLessThan(300);
    await other.destroy();
  }, 120_000);
});
