/**
 * PostgreSQL killed (-9) under a real service, one server process or all of it, between a commit and
 * its answer or just before the commit: what is answered is what happened, once.
 */
import { readFileSync, readdirSync } from 'node:fs';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type pg from 'pg';

import { TestService } from '../e2e/service.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { eventually } from '../store/eventually.ts';
import { withOwner } from '../store/owner.ts';
import { startRelay } from '../store/relay.ts';
import type { Relay } from '../store/relay.ts';
import { untilReady } from './load.ts';

let database: TestDatabase;
let relay: Relay;
let service: TestService;

beforeAll(async () => {
  database = await startTestDatabase();
  relay = await startRelay(database.port);
  service = await TestService.start({
    environment: {
      DATABASE_URL: relay.url(database.appUrl),
      TWOFOLD_DATABASE_OWNER_URL: database.ownerUrl,
    },
  });
  expect((await create('used')).status).toBe(201);
}, 120_000);
afterAll(async () => {
  try {
    await service.destroy();
  } finally {
    await relay.close();
    await database.stop();
  }
}, 60_000);

const create = (name: string) =>
  service.request('POST', '/v1/admin/keys', { name, suite: 'A256GCM' });
const wrap = () => service.request('POST', '/v1/keys/used/wrap', { plaintext: 'AAAA' });

/** Read once a connection can be had: what was killed may not be back, and the service not know it. */
const count = async (sql: string, values: readonly unknown[] = []): Promise<number> => {
  const read = async (owner: pg.Client) => {
    const text = `select count(*)::int as n ${sql}`;
    const { rows } = await owner.query<{ n: number }>(text, [...values]);
    return rows[0]?.n;
  };
  let found: number | undefined;
  await eventually(async () => {
    found = await withOwner(database, read).catch(() => undefined);
    return found !== undefined;
  }, 20_000);
  return found ?? -1;
};
const wraps = () => count(`from entry where operation = 'wrap' and outcome = 'ok'`);
const keys = (name: string) => count('from key where name = $1', [name]);
const creations = (name: string) =>
  count(`from entry where operation = 'keys.create' and key_ref = $1 and outcome = 'ok'`, [name]);

/** The server process that serves a client's port, by the title that PostgreSQL gives it. */
function serverProcessOf(port: number): number {
  const title = `127.0.0.1(${String(port)})`;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/u.test(name))) {
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(title)) return Number(pid);
    } catch {
      // It has gone.
    }
  }
  throw new Error(`no server process serves port ${String(port)}`);
}

/** If the postmaster alone died, a server process could still take the lock and commit. */
const VICTIMS = {
  'one server process': (port: number) => [serverProcessOf(port)],
  'all of PostgreSQL': (port: number) => [serverProcessOf(port), database.pid()],
} as const;

const kill = (victim: keyof typeof VICTIMS, port: number): void => {
  for (const pid of VICTIMS[victim](port)) process.kill(pid, 'SIGKILL');
};

/** Holds the barrier, so that what takes the other side of it waits before it writes anything. */
async function holding<T>(lock: string, use: () => Promise<T>): Promise<T> {
  return withOwner(database, async (owner: pg.Client) => {
    // The crash of another process ends this session too.
    owner.on('error', () => undefined);
    await owner.query('begin');
    await owner.query(`select ${lock}(7411)`);
    return use();
  });
}

const waiting = () => count(`from pg_locks where locktype = 'advisory' and not granted`);

describe.each(Object.keys(VICTIMS) as (keyof typeof VICTIMS)[])('%s is killed', (victim) => {
  const tag = victim.startsWith('one') ? 'one' : 'all';

  it('between the commit of an append and its answer: answered, and written once', async () => {
    const before = await wraps();
    const held = relay.holdAfter(/append/u);
    const answer = wrap();
    const port = await held;
    await eventually(async () => (await wraps()) === before + 1);
    kill(victim, port);
    const { status, headers } = await answer;
    expect(status).toBe(200);
    await untilReady(service);
    expect(await wraps()).toBe(before + 1);
    const id = headers.get('twofold-audit-id') ?? '';
    const entry = await service.request('GET', `/v1/audit/entries/${id}`);
    expect(entry.json).toMatchObject({ operation: 'wrap', outcome: 'ok' });
  }, 60_000);

  it('between the commit of a change and its answer: answered, and done once', async () => {
    const name = `after-${tag}`;
    const held = relay.holdAfter(/commit_change/u);
    const answer = create(name);
    const port = await held;
    await eventually(async () => (await keys(name)) === 1);
    kill(victim, port);
    expect((await answer).status).toBe(201);
    await untilReady(service);
    expect([await keys(name), await creations(name)]).toEqual([1, 1]);
    expect((await create(name)).json.code).toBe('key_exists');
  }, 60_000);

  it('before the commit of an append: sent again, and written once', async () => {
    const before = await wraps();
    const held = relay.holdAfter(/append/u);
    const answer = holding('pg_advisory_xact_lock', async () => {
      const wrapped = wrap();
      const port = await held;
      await eventually(async () => (await waiting()) > 0);
      expect(await wraps()).toBe(before);
      kill(victim, port);
      return { wrapped };
    });
    expect((await (await answer).wrapped).status).toBe(200);
    await untilReady(service);
    expect(await wraps()).toBe(before + 1);
  }, 60_000);

  it('before the commit of a change: refused, and never done', async () => {
    const name = `before-${tag}`;
    const held = relay.holdAfter(/commit_change/u);
    const answer = holding('pg_advisory_xact_lock_shared', async () => {
      const created = create(name);
      const port = await held;
      await eventually(async () => (await waiting()) > 0);
      kill(victim, port);
      return { created };
    });
    const { status, json } = await (await answer).created;
    expect([status, json.code]).toEqual([503, 'database_unavailable']);
    await untilReady(service);
    expect([await keys(name), await creations(name)]).toEqual([0, 0]);
    expect((await create(name)).status).toBe(201);
    expect([await keys(name), await creations(name)]).toEqual([1, 1]);
  }, 60_000);
});
