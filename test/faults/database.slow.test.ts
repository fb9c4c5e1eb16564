/** The database under a real service stops, hangs, loses answers: one code meanwhile, nothing lost. */
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';

import { findEmbedded } from '../../src/store/embedded.ts';
import { recordedPid } from '../../src/store/embedded-process.ts';
import { withChildren } from '../e2e/processes.ts';
import { TestService } from '../e2e/service.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { eventually } from '../store/eventually.ts';
import { withClient } from '../store/owner.ts';
import { startRelay } from '../store/relay.ts';
import type { Relay } from '../store/relay.ts';
import { Load, healthOf, untilFailing, untilReady } from './load.ts';

/** What may be answered while the database is away. */
const AWAY = ['503 database_unavailable', '503 audit_unavailable'];
const codesOf = (load: Load) => [
  ...new Set(load.refusals.map(({ status, code }) => `${String(status)} ${code ?? ''}`)),
];

describe('the embedded database', () => {
  let service: TestService;
  beforeAll(async () => {
    service = await TestService.start();
  }, 120_000);
  afterAll(async () => {
    await service.destroy();
  }, 60_000);

  const postmaster = () => recordedPid(join(service.dataDir, 'db', 'cluster')) ?? 0;

  it.each(['SIGINT', 'SIGKILL'] as const)(
    'ended by %s under load is started again; nothing acknowledged is lost',
    async (signal) => {
      const load = new Load(service, signal.toLowerCase());
      load.start(3);
      await eventually(async () => load.acknowledged > 8, 60_000);
      const before = postmaster();
      process.kill(before, signal);
      await eventually(async () => ![before, 0].includes(postmaster()), 60_000);
      await untilReady(service);
      const at = load.acknowledged;
      await eventually(async () => load.acknowledged > at + 8, 60_000);
      await load.stop();
      for (const code of codesOf(load)) expect(AWAY).toContain(code);
      await load.expectKept(findEmbedded(service.dataDir)?.ownerUrl ?? '');
      await service.request('GET', '/v1/keys');
    },
    180_000,
  );
});

describe('a database of its own', () => {
  let database: TestDatabase;
  let relay: Relay;
  let service: TestService;
  let frozen: readonly number[] = [];
  const environment = () => ({
    DATABASE_URL: relay.url(database.appUrl),
    TWOFOLD_DATABASE_OWNER_URL: relay.url(database.ownerUrl),
  });
  const thaw = () => {
    for (const pid of frozen) process.kill(pid, 'SIGCONT');
    frozen = [];
  };

  beforeAll(async () => {
    database = await startTestDatabase();
    relay = await startRelay(database.port);
    service = await TestService.start({ environment: environment() });
  }, 120_000);
  afterEach(() => {
    thaw();
    relay.unmute();
  });
  afterAll(async () => {
    try {
      await service.destroy();
    } finally {
      await relay.close();
      await database.stop();
    }
  }, 60_000);

  it('hung past the deadline: 503 in time, red, and green again without a restart', async () => {
    const load = new Load(service);
    for (let round = 0; round < 4; round += 1) await load.round();
    frozen = withChildren(database.pid());
    for (const pid of frozen) process.kill(pid, 'SIGSTOP');

    const began = performance.now();
    const refused = await Promise.all([
      service.request('POST', '/v1/keys/load-1/wrap', { plaintext: 'AAAA' }),
      service.request('POST', '/v1/admin/keys', { name: 'while-hung', suite: 'A256GCM' }),
    ]);
    for (const { status, json } of refused)
      expect(AWAY).toContain(`${String(status)} ${json.code ?? ''}`);
    expect(performance.now() - began).toBeLessThan(15_000);
    const { status, states } = await untilFailing(service, 'database');
    expect([status, states['database']]).toEqual([503, 'unreachable']);
    expect((await healthOf(service)).failing).toContain('audit');

    thaw();
    await untilReady(service);
    await load.round();
    expect(load.refusals).toEqual([]);
    await load.expectKept(database.ownerUrl);
    await expectWholeOrNotAtAll('while-hung');
  }, 180_000);

  /** A change that was not acknowledged is there and works, or is not there and can be made. */
  async function expectWholeOrNotAtAll(name: string): Promise<void> {
    const read = await service.request('GET', `/v1/keys/${name}`);
    if (read.status !== 200) {
      expect(read.json.code).toBe('key_not_found');
      const made = await service.request('POST', '/v1/admin/keys', { name, suite: 'A256GCM' });
      expect(made.status).toBe(201);
    }
    const wrapped = await service.request('POST', `/v1/keys/${name}/wrap`, { plaintext: 'AAAA' });
    expect(wrapped.status).toBe(200);
  }

  it('whose connection is cut between a commit and its answer: the truth is found and answered', async () => {
    relay.cutAfter(/commit_change/u);
    const made = await service.request('POST', '/v1/admin/keys', { name: 'cut', suite: 'A256GCM' });
    expect([made.status, made.json.code]).toEqual([201, undefined]);
    const again = await service.request('POST', '/v1/admin/keys', {
      name: 'cut',
      suite: 'A256GCM',
    });
    expect(again.json.code).toBe('key_exists');

    relay.cutAfter(/append/u);
    const wrapped = await service.request('POST', '/v1/keys/cut/wrap', { plaintext: 'AAAA' });
    expect([wrapped.status, wrapped.json.code]).toEqual([200, undefined]);
    for (const [answer, operation] of [
      [made, 'keys.create'],
      [wrapped, 'wrap'],
    ] as const) {
      const id = answer.headers.get('twofold-audit-id') ?? '';
      const entry = await service.request('GET', `/v1/audit/entries/${id}`);
      expect(entry.json).toMatchObject({ operation, outcome: 'ok' });
    }
    const count = await withClient(database.ownerUrl, async (client) => {
      const { rows } = await client.query<{ n: number }>(
        `select count(*)::int as n from entry where operation = 'wrap' and key_ref = 'cut'`,
      );
      return rows[0]?.n;
    });
    expect(count).toBe(1);
    await untilReady(service);
  }, 60_000);

  it('whose answers are lost: 503, and what was committed is found afterwards', async () => {
    relay.muteAnswers();
    const made = service.request('POST', '/v1/admin/keys', { name: 'muted', suite: 'A256GCM' });
    const wrapped = service.request('POST', '/v1/keys/cut/wrap', { plaintext: 'AAAA' });
    for (const answer of [await made, await wrapped]) {
      expect(AWAY).toContain(`${String(answer.status)} ${answer.json.code ?? ''}`);
      expect(answer.json['ciphertext']).toBeUndefined();
    }
    relay.unmute();
    await untilReady(service);
    await expectWholeOrNotAtAll('muted');
  }, 60_000);

  it('stopped and started again is found again', async () => {
    process.kill(database.pid(), 'SIGINT');
    const refused = await service.request('POST', '/v1/admin/keys', {
      name: 'stopped',
      suite: 'A256GCM',
    });
    // The start after a clean stop may be quicker than the request's deadline.
    if (refused.status !== 201) {
      expect(AWAY).toContain(`${String(refused.status)} ${refused.json.code ?? ''}`);
    }
    await sleep(100);
    await untilReady(service);
    await expectWholeOrNotAtAll('stopped');
  }, 60_000);

  it('migrated by a newer version is refused, with and without the owner', async () => {
    await withClient(database.ownerUrl, async (client) => {
      await client.query(
        `insert into twofold_migration (name, sha256, version) values ('9999_later', 'x', '9.9.9')`,
      );
    });
    for (const settings of [environment(), { DATABASE_URL: database.appUrl }]) {
      const late = await TestService.start({ environment: settings, ready: false });
      try {
        const [code] = (await once(late.child, 'exit')) as [number | null];
        expect(code).toBe(1);
        expect(late.output).toMatch(/newer version, 9\.9\.9 \(9999_later\)/u);
      } finally {
        await late.destroy();
      }
    }
    await withClient(database.ownerUrl, async (client) => {
      await client.query(`delete from twofold_migration where name = '9999_later'`);
    });
  }, 90_000);
});
