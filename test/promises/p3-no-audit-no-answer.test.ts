/** P3: no result leaves before its audit entry is durable. Against a real database and its faults. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { draftOf, standingOf, thisKey } from '../audit/drafts.ts';
import { brokenBatches, brokenChains, durableEntries, startInstance } from '../audit/instances.ts';
import type { TestInstance } from '../audit/instances.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { eventually } from '../store/eventually.ts';
import { startRelay } from '../store/relay.ts';
import type { Relay } from '../store/relay.ts';
import { stopwatch } from '../waited.ts';

let database: TestDatabase;
let relay: Relay;
let instance: TestInstance;

beforeAll(async () => {
  database = await startTestDatabase();
  relay = await startRelay(database.port);
}, 60_000);

afterAll(async () => {
  await relay.close();
  await database.stop();
});

beforeEach(async () => {
  instance = await startInstance(relay.url(database.appUrl), { deadlineMs: 3000 });
});

afterEach(async () => {
  relay.unmute();
  await instance.stop();
  const entries = await durableEntries(database);
  expect(brokenChains(entries)).toEqual([]);
  expect(await brokenBatches(entries)).toEqual([]);
});

const record = (requestId: string) =>
  instance.log.record(draftOf({ requestId }), standingOf(instance.epoch.current));
const ENOUGH = 100;
const idsOf = async (requestId: string) =>
  (await durableEntries(database))
    .filter((entry) => entry.requestId === requestId)
    .map(({ id }) => id);

describe('P3 no audit, no answer', () => {
  it('what resolved can be read by somebody else at once', async () => {
    const requestId = randomUUID();
    const id = await record(requestId);
    expect(await idsOf(requestId)).toEqual([id]);
    expect((await instance.log.read(id))?.draft.requestId).toBe(requestId);
  });

  it('an answer lost on its way after the commit: the entry is there once', async () => {
    const requestId = randomUUID();
    await record(randomUUID());
    relay.cutAfter(/append/u);
    const id = await record(requestId);
    expect(await idsOf(requestId)).toEqual([id]);
  });

  it('a database that stands still: audit_unavailable in time, and nothing else', async () => {
    await record(randomUUID());
    process.kill(database.pid(), 'SIGSTOP');
    await stopBackends('SIGSTOP');
    const waiting = [randomUUID(), randomUUID()];
    const elapsed = stopwatch();
    try {
      const outcomes = await Promise.allSettled(waiting.map(record));
      expect(elapsed()).toBeLessThan(6_000);
      for (const outcome of outcomes) {
        expect(outcome).toMatchObject({
          status: 'rejected',
          reason: { code: 'audit_unavailable' },
        });
      }
      expect(instance.log.health().ok).toBe(false);
    } finally {
      await stopBackends('SIGCONT');
      process.kill(database.pid(), 'SIGCONT');
    }
    const requestId = randomUUID();
    let id = await record(requestId).catch(() => null);
    id ??= await record(requestId);
    expect(await idsOf(requestId)).toContain(id);
    expect(instance.log.health().ok).toBe(true);
    for (const lost of waiting) expect((await idsOf(lost)).length).toBeLessThanOrEqual(1);
  }, 30_000);

  it('connections cut at random under load: what resolved is there once, in unbroken lanes', async () => {
    const acknowledged = new Map<string, string>();
    const begun = performance.now();
    // As long as it takes on a busy machine to have seen enough.
    const goesOn = (): boolean => {
      const ms = performance.now() - begun;
      return ms < 2500 || (ms < 20_000 && acknowledged.size <= ENOUGH);
    };
    const worker = async (): Promise<void> => {
      while (goesOn()) {
        const requestId = randomUUID();
        const id = await record(requestId).catch(() => null);
        if (id !== null) acknowledged.set(requestId, id);
      }
    };
    const saboteur = async (): Promise<void> => {
      while (goesOn()) {
        await sleep(50 + Math.random() * 150);
        relay.cutAfter(/append/u);
      }
    };
    await Promise.all([...Array.from({ length: 16 }, worker), saboteur()]);
    const entries = await durableEntries(database);
    const places = new Map<string, string[]>();
    for (const { requestId, id } of entries) {
      places.set(requestId, [...(places.get(requestId) ?? []), id]);
    }
    expect(acknowledged.size).toBeGreaterThan(ENOUGH);
    for (const [requestId, id] of acknowledged) expect(places.get(requestId)).toEqual([id]);
  }, 60_000);

  it('a change whose answer is lost after its commit turns out done, with one entry', async () => {
    await instance.suspend(thisKey);
    relay.cutAfter(/commit_change/u);
    const { epoch, auditId } = await instance.suspend(thisKey);
    expect(epoch).toBe(instance.epoch.current);
    const found = (await durableEntries(database)).filter(({ id }) => id === auditId);
    expect(found).toMatchObject([{ operation: 'keys.suspend', outcome: 'ok' }]);
  });

  it('counts of unauthenticated requests are durable a moment later', async () => {
    const source = '203.0.113.77';
    for (let index = 0; index < 3; index += 1) instance.log.countAnonymous(source, 'token_missing');
    const counted = async () =>
      (await durableEntries(database))
        .map(({ detail }) => detail[`${source} token_missing`])
        .filter((count) => count !== undefined);
    await eventually(async () => (await counted()).length > 0, 5_000);
    expect(await counted()).toEqual([3]);
  });

  it('stops with its last entries, and takes none after them', async () => {
    const { useLane, changeLane } = instance.log.health();
    expect(await instance.log.stop()).toEqual({ closed: true });
    const entries = await durableEntries(database);
    for (const lane of [useLane, changeLane]) {
      const last = entries.filter((entry) => entry.lane === lane).at(-1);
      expect(last?.detail).toMatchObject({ last: true });
    }
    await expect(record(randomUUID())).rejects.toMatchObject({ code: 'shutting_down' });
  });
});

/** A stopped postmaster's backends run on: they are stopped too. */
async function stopBackends(signal: 'SIGSTOP' | 'SIGCONT'): Promise<void> {
  const { readdir, readFile } = await import('node:fs/promises');
  const parent = database.pid();
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/u.test(name))) {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (Number(fields[1]) === parent) process.kill(Number(pid), signal);
  }
}
