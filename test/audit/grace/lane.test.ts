/** The lane of uses with a grace, over a database in memory that stops answering. */
import { afterEach, beforeEach, expect, it } from '@jest/globals';

import { Lease } from '../../../src/audit/grace/lease.ts';
import type { Replay } from '../../../src/audit/grace/ports.ts';
import type { Spool } from '../../../src/audit/grace/spool-file.ts';
import { createAuditLog } from '../../../src/audit/log.ts';
import type { RunningAuditLog } from '../../../src/audit/log.ts';
import { StaleAnswer } from '../../../src/audit/ports.ts';
import type { AppendBatch, CommitOutcome } from '../../../src/audit/ports.ts';
import { SecurityEpoch } from '../../../src/epoch.ts';
import { TwofoldError } from '../../../src/errors.ts';
import { INSTANCE, draftOf, otherKey, standingOf, thisKey } from '../drafts.ts';
import { MemoryAuditStore, softwareMac } from '../memory-store.ts';

/** A database that can go away, and takes replays as the real one does. */
class GoingStore extends MemoryAuditStore {
  away = false;
  readonly replays: Replay[] = [];
  #back = Promise.withResolvers<undefined>();

  goAway(): void {
    this.away = true;
  }

  comeBack(): void {
    this.away = false;
    this.#back.resolve(undefined);
    this.#back = Promise.withResolvers();
  }

  override async append(batch: AppendBatch): Promise<CommitOutcome> {
    if (this.away) await this.#back.promise;
    return super.append(batch);
  }

  replay = async (replay: Replay): Promise<number> => {
    if (this.away) throw new TwofoldError('database_unavailable');
    this.replays.push(replay);
    const { entries, batches } = this.lane(replay.lane);
    for (const { first, entries: all, hmac, epoch } of replay.batches) {
      if (entries.length >= first + all.length - 1) continue;
      expect(entries).toHaveLength(first - 1);
      entries.push(...all.map((entry) => ({ entry, epoch, at: 0 })));
      batches.push({ first, count: all.length, hmac });
    }
    return this.epoch;
  };
}

class MemorySpool implements Spool {
  batches: AppendBatch[] = [];
  state: 'open' | 'removed' | 'aside' | 'closed' = 'open';
  full = false;

  async write(batch: AppendBatch): Promise<void> {
    if (this.full) throw new TwofoldError('storage_full');
    this.batches.push(batch);
  }

  async remove(): Promise<void> {
    this.state = 'removed';
  }

  async setAside(): Promise<void> {
    this.state = 'aside';
  }

  async close(): Promise<void> {
    this.state = 'closed';
  }
}

let store: GoingStore;
let epoch: SecurityEpoch;
let lease: Lease;
let log: RunningAuditLog;
let spools: MemorySpool[];
let full = false;

const begin = async (graceMs: number): Promise<void> => {
  store = new GoingStore();
  epoch = new SecurityEpoch(store.epoch);
  lease = new Lease({ graceMs, known: () => epoch.current });
  spools = [];
  full = false;
  log = createAuditLog({
    store,
    mac: softwareMac,
    epoch,
    instance: INSTANCE,
    zone: 'z',
    deadlineMs: 2_500,
    grace: {
      lease,
      store,
      open: async () => {
        const spool = new MemorySpool();
        spool.full = full;
        spools.push(spool);
        return spool;
      },
      onTrouble: () => undefined,
    },
  });
  await log.start();
  lease.beaten(performance.now(), store.epoch, store.epoch);
};

beforeEach(() => begin(60_000));
afterEach(async () => {
  store.comeBack();
  await log.stop(1_000);
});

const use = (operation = 'unwrap') =>
  log.record(draftOf({ operation }), standingOf(epoch.current)).catch((error: unknown) => error);
const codeOf = (error: unknown) => (error instanceof TwofoldError ? error.code : error);

it('answers unwraps from 700 ms on, nothing else, and replays every entry once', async () => {
  await use();
  store.goAway();
  const began = performance.now();
  const [first, wrap] = [use(), use('wrap')];
  const id = String(await first);
  expect(performance.now() - began).toBeGreaterThan(650);
  expect(performance.now() - began).toBeLessThan(1_000);
  const soon = performance.now();
  const ids = await Promise.all([use(), use('verify'), use()]);
  expect(performance.now() - soon).toBeLessThan(300);
  expect(log.leaving(id, standingOf(epoch.current))).toBe('spooled');
  expect([log.refusal('unwrap'), log.refusal('wrap')?.code]).toEqual([null, 'read_only_grace']);
  expect(log.health()).toMatchObject({ ok: true, spooled: 5 });
  // What the database has is what heartbeats announce.
  expect(log.health().acknowledged.use).toBe(2);

  store.comeBack();
  // A wrap that waited may leave: nothing had changed when its entry got there.
  expect(await wrap).toMatch(/^\d+-\d+$/u);
  expect(log.health()).toMatchObject({ ok: true, spooled: 0 });
  expect(log.leaving(id, standingOf(epoch.current))).toBe('durable');
  expect(spools.map(({ state }) => state)).toEqual(['removed']);
  expect(log.refusal('wrap')).toBeNull();
  expect(await use('wrap')).toMatch(/^\d+-\d+$/u);
  expect(new Set([id, ...ids]).size).toBe(4);
  expect(await store.verify()).toEqual([]);
}, 10_000);

it('lets nothing out once the lease is over, nor under what has changed', async () => {
  store.goAway();
  const id = String(await use());
  epoch.advance([{ ...otherKey, epoch: 2 }]);
  expect(log.leaving(id, standingOf(1))).toBe('spooled');
  // Its changes are not known here yet.
  lease.saw(3);
  expect(() => log.leaving(id, standingOf(2))).toThrow(TwofoldError);
  epoch.advance([{ ...thisKey, epoch: 3 }]);
  expect(() => log.leaving(id, standingOf(2))).toThrow(StaleAnswer);
  lease.forfeit();
  expect(() => log.leaving(id, standingOf(3))).toThrow(TwofoldError);
  expect(codeOf(await use())).toBe('audit_unavailable');
  expect(log.refusal('unwrap')?.code).toBe('audit_unavailable');
  expect(log.health().ok).toBe(false);
}, 10_000);

it('without a lease, or without room, waits for the database as ever', async () => {
  full = true;
  store.goAway();
  const refused = use();
  expect(codeOf(await refused)).toBe('audit_unavailable');
  store.comeBack();
  full = false;
  expect(await use()).toMatch(/^\d+-\d+$/u);
  expect(await store.verify()).toEqual([]);
}, 10_000);
