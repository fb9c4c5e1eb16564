/** The lane of uses with a grace, over a database in memory that stops answering. */
import { setTimeout as sleep } from 'node:timers/promises';

import { afterEach, beforeEach, expect, it } from '@jest/globals';

import { Lease } from '../../../src/audit/grace/lease.ts';
import type { Replay } from '../../../src/audit/grace/ports.ts';
import type { Spool } from '../../../src/audit/grace/spool-file.ts';
import { createAuditLog } from '../../../src/audit/log.ts';
import type { RunningAuditLog } from '../../../src/audit/log.ts';
import { StaleAnswer } from '../../../src/audit/ports.ts';
import type { AppendBatch, CommitOutcome } from '../../../src/audit/ports.ts';
import { SecurityEpoch } from '../../../src/epoch.ts';
import type { SecurityChange } from '../../../src/epoch.ts';
import { TwofoldError } from '../../../src/errors.ts';
import { LaneLost } from '../../../src/outcome.ts';
import { INSTANCE, draftOf, otherKey, standingOf, thisKey } from '../drafts.ts';
import { MemoryAuditStore, softwareMac } from '../memory-store.ts';

/** What waits at it until the test lets it on. */
class Gate {
  readonly #reached = Promise.withResolvers<undefined>();
  readonly #opened = Promise.withResolvers<undefined>();

  /** Resolves once somebody waits. */
  get reached(): Promise<unknown> {
    return this.#reached.promise;
  }

  async pass(): Promise<void> {
    this.#reached.resolve(undefined);
    await this.#opened.promise;
  }

  open(): void {
    this.#opened.resolve(undefined);
  }
}

/** A database that can go away, and takes replays as the real one does. */
class GoingStore extends MemoryAuditStore {
  away = false;
  readonly replays: Replay[] = [];
  /** At which the next replay waits. */
  replayGate: Gate | null = null;
  /** At which the next reading of changes waits. */
  changesGate: Gate | null = null;
  /** At which every reading of changes waits. */
  heldChanges: Gate | null = null;
  /** Of changes, under way or ended. */
  readings = 0;
  /** Of replays, while it is not null. */
  refusal: Error | null = null;
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

  override async changesSince(epoch: number): Promise<readonly SecurityChange[]> {
    this.readings += 1;
    const gate = this.heldChanges ?? this.changesGate;
    this.changesGate = null;
    await gate?.pass();
    return super.changesSince(epoch);
  }

  replay = async (replay: Replay): Promise<number> => {
    const gate = this.replayGate;
    this.replayGate = null;
    await gate?.pass();
    if (this.away) throw new TwofoldError('database_unavailable');
    if (this.refusal !== null) throw this.refusal;
    this.replays.push(replay);
    const lane = this.lane(replay.lane);
    lane.unknown = null;
    const { entries, batches } = lane;
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
  scarce = false;
  /** At which the next write waits. */
  gate: Gate | null = null;

  async write(batch: AppendBatch): Promise<void> {
    const { gate } = this;
    this.gate = null;
    await gate?.pass();
    if (this.full) throw new TwofoldError('storage_full');
    this.batches.push(batch);
  }

  async remove(): Promise<void> {
    this.state = 'removed';
  }

  /** How many of its entries were said to be in the database when it was set aside. */
  replayed: number | null = null;

  async setAside(replayed: number): Promise<void> {
    this.state = 'aside';
    this.replayed = replayed;
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
let kept = 0;

const begin = async (graceMs: number, deadlineMs = 2_500): Promise<void> => {
  store = new GoingStore();
  epoch = new SecurityEpoch(store.epoch);
  lease = new Lease({ graceMs });
  spools = [];
  full = false;
  kept = 0;
  log = createAuditLog({
    store,
    mac: softwareMac,
    epoch,
    instance: INSTANCE,
    zone: 'z',
    deadlineMs,
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
      onKept: () => {
        kept += 1;
      },
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
  expect(performance.now() - began).toBeLessThan(2_000);
  const soon = performance.now();
  const ids = await Promise.all([use(), use('verify'), use()]);
  expect(performance.now() - soon).toBeLessThan(650);
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
  epoch.advance([{ ...thisKey, epoch: 3 }]);
  expect(() => log.leaving(id, standingOf(2))).toThrow(StaleAnswer);
  lease.forfeit();
  expect(() => log.leaving(id, standingOf(3))).toThrow(TwofoldError);
  expect(codeOf(await use())).toBe('audit_unavailable');
  expect(log.refusal('unwrap')?.code).toBe('audit_unavailable');
  expect(log.health().ok).toBe(false);
}, 10_000);

it('is as ever after an outage that outlasted it, though nobody repeats what was refused', async () => {
  await log.stop(1_000);
  await begin(1, 900);
  // Refused at once: certainly not written.
  store.plan = (call) => (call === 'append' ? 'refused' : 'none');
  expect(codeOf(await use())).toBe('audit_unavailable');
  expect(log.health().ok).toBe(false);
  store.plan = () => 'none';
  lease.beaten(performance.now() + 60_000, store.epoch, store.epoch);
  // It pauses before it finds that nobody waits any more.
  for (let look = 0; look < 100 && lease.mode(performance.now()) !== 'normal'; look += 1) {
    await sleep(20);
  }
  expect(lease.mode(performance.now())).toBe('normal');
  expect(log.refusal('wrap')).toBeNull();
  await log.probe();
  expect(log.health()).toMatchObject({ ok: true, failures: 0 });
  expect(spools).toEqual([]);
  expect(await store.verify()).toEqual([]);
}, 10_000);

it('without a lease, or without room, waits for the database as ever', async () => {
  full = true;
  store.goAway();
  const refused = use();
  await sleep(800);
  expect([lease.mode(performance.now()), log.health().ok]).toEqual(['grace', false]);
  expect(codeOf(await refused)).toBe('audit_unavailable');
  store.comeBack();
  full = false;
  expect(await use()).toMatch(/^\d+-\d+$/u);
  // Nobody would try it again otherwise, as nothing is sent to an instance that is not ready.
  lease.sent('heartbeat', performance.now() - 1_000);
  expect([lease.mode(performance.now()), log.health().ok]).toEqual(['grace', true]);
  expect(await store.verify()).toEqual([]);
}, 10_000);

it('reads changes once, however late, where the spool has no room either', async () => {
  full = true;
  store.change(otherKey);
  const held = (store.heldChanges = new Gate());
  const before = store.readings;
  const answered = use();
  await held.reached;
  await sleep(1_200);
  expect(lease.mode(performance.now())).toBe('grace');
  expect(store.readings - before).toBeLessThan(3);
  store.heldChanges = null;
  held.open();
  expect(await answered).toMatch(/^\d+-\d+$/u);
  expect(await store.verify()).toEqual([]);
}, 10_000);

it('goes on where no commit comes back while it learns what an append was refused for', async () => {
  store.change(otherKey);
  const gate = (store.changesGate = new Gate());
  const began = performance.now();
  const first = use();
  await gate.reached;
  store.goAway();
  const id = String(await first);
  expect(performance.now() - began).toBeLessThan(2_000);
  expect(log.leaving(id, standingOf(epoch.current))).toBe('spooled');
  gate.open();
  store.comeBack();
  await over();
  expect(epoch.current).toBe(store.epoch);
  expect(await store.verify()).toEqual([]);
}, 10_000);

/** The next write into the spool that is open waits at the gate. */
function holdWrite(): Gate {
  const gate = new Gate();
  const spool = spools.at(-1);
  if (spool === undefined) throw new Error('no spool');
  spool.gate = gate;
  return gate;
}

const holdReplay = (): Gate => (store.replayGate = new Gate());
const over = async (): Promise<void> => {
  while (log.health().spooled > 0) await sleep(5);
  // The file's end comes after.
  await sleep(5);
};

it('keeps the file while a batch is written into it, though all before is in the database', async () => {
  store.goAway();
  const replay = holdReplay();
  await use();
  const write = holdWrite();
  const second = use();
  await write.reached;
  store.comeBack();
  replay.open();
  await over();
  expect(spools.map(({ state }) => state)).toEqual(['open']);
  const again = holdReplay();
  write.open();
  const id = String(await second);
  expect(log.leaving(id, standingOf(epoch.current))).toBe('spooled');
  // What it stands on is in a file that is there.
  expect(spools.map(({ state, batches }) => [state, batches.length])).toEqual([['open', 2]]);
  again.open();
  await over();
  expect(spools.map(({ state }) => state)).toEqual(['removed']);
  expect(await store.verify()).toEqual([]);
}, 10_000);

it('removes the file that took nothing after all before it was in the database', async () => {
  store.goAway();
  const replay = holdReplay();
  await use();
  const write = holdWrite();
  const second = use();
  await write.reached;
  store.comeBack();
  replay.open();
  await over();
  for (const spool of spools) spool.full = true;
  write.open();
  expect(log.leaving(String(await second), standingOf(epoch.current))).toBe('durable');
  expect(spools.map(({ state }) => state)).toEqual(['removed']);
  expect(await store.verify()).toEqual([]);
}, 10_000);

it('replays in one loop, however a batch comes while changes are learnt', async () => {
  store.goAway();
  const replay = holdReplay();
  await use();
  const write = holdWrite();
  const second = use();
  await write.reached;
  store.change(otherKey);
  const changes = (store.changesGate = new Gate());
  store.comeBack();
  replay.open();
  // The first is in the database, and the loop learns what changed; then the second is in the spool.
  await changes.reached;
  const third = holdReplay();
  write.open();
  const fourth = (async () => {
    await sleep(50);
    changes.open();
    await sleep(50);
    third.open();
  })();
  await Promise.allSettled([second, fourth]);
  await over();
  const places = store.replays.flatMap(({ batches }) => batches.map(({ first }) => first));
  expect(places).toEqual([...new Set(places)]);
  await use();
  expect(await store.verify()).toEqual([]);
}, 10_000);

it('keeps the spool for a refusal of an old primary, until a committed read explains it', async () => {
  store.goAway();
  const id = String(await use());
  store.refusal = new LaneLost('gone');
  store.comeBack();
  await sleep(300);
  expect(spools.map(({ state }) => state)).toEqual(['open']);
  expect(log.leaving(id, standingOf(epoch.current))).toBe('spooled');
  // No committed read comes back from it either.
  store.plan = (call) => (call === 'leafAt' ? 'refused' : 'none');
  await sleep(300);
  expect(spools.map(({ state }) => state)).toEqual(['open']);
  store.plan = () => 'none';
  store.refusal = null;
  await over();
  expect(spools.map(({ state }) => state)).toEqual(['removed']);
  expect(log.leaving(id, standingOf(epoch.current))).toBe('durable');
  expect(await store.verify()).toEqual([]);
}, 10_000);

it('gives who waited for a lost spool a place in the next lane', async () => {
  await use();
  store.goAway();
  const replay = holdReplay();
  const [answered, waited] = [use(), use('wrap')];
  const id = String(await answered);
  const lane = store.lane(Number(id.split('-')[0]));
  // What came before is gone, as after a restore.
  lane.entries.pop();
  lane.batches.pop();
  store.refusal = new LaneLost('gone');
  store.plan = (call, batch) => (call === 'append' && batch?.lane === 2 ? 'gone' : 'none');
  store.comeBack();
  replay.open();
  const placed = String(await waited);
  expect(placed).toMatch(/^\d+-\d+$/u);
  expect(placed.split('-')[0]).not.toBe(id.split('-')[0]);
  expect(spools.map(({ state, replayed }) => [state, replayed])).toEqual([['aside', 0]]);
  expect(kept).toBe(1);
  expect(log.health()).toMatchObject({ ok: true, spooled: 0 });
}, 10_000);

it('begins, and stays well, where commits fail at once instead of hanging', async () => {
  await use();
  store.refusal = new TwofoldError('database_unavailable');
  const healths: boolean[] = [];
  const watch = setInterval(() => {
    if (lease.mode(performance.now()) === 'grace') healths.push(log.health().ok);
    void log.probe();
  }, 20);
  try {
    store.plan = (call) => (call === 'append' ? 'lost-before' : 'refused');
    expect(await use()).toMatch(/^\d+-\d+$/u);
    expect(await use()).toMatch(/^\d+-\d+$/u);
    // However seldom a busy machine lets it look.
    while (healths.length <= 5) await sleep(20);
  } finally {
    clearInterval(watch);
  }
  // The last look before the batch is in the spool may find it on its way.
  expect(healths.slice(1)).not.toContain(false);
  expect(log.health()).toMatchObject({ ok: true, spooled: 2, failures: 0 });
  store.plan = () => 'none';
  store.refusal = null;
  await over();
  expect(store.all().filter(({ index }) => index.operation === 'lane.probe')).toHaveLength(0);
  expect(log.health()).toMatchObject({ ok: true, failures: 0 });
  expect(await store.verify()).toEqual([]);
}, 10_000);

it('keeps the second half of the spool for answers', async () => {
  store.goAway();
  await use();
  const refusal = (outcome: string, operation: string) =>
    log
      .record(draftOf({ operation, outcome }), standingOf(epoch.current))
      .catch((error: unknown) => error);
  expect(await refusal('forbidden', 'unwrap')).toMatch(/^\d+-\d+$/u);
  expect(await refusal('read_only_grace', 'wrap')).toMatch(/^\d+-\d+$/u);
  for (const spool of spools) spool.scarce = true;
  expect(codeOf(await refusal('forbidden', 'unwrap'))).toBe('audit_unavailable');
  expect(codeOf(await refusal('read_only_grace', 'wrap'))).toBe('audit_unavailable');
  expect(await use()).toMatch(/^\d+-\d+$/u);
  expect(log.health()).toMatchObject({ ok: true, spooled: 4 });
  store.comeBack();
  await over();
  expect(await refusal('forbidden', 'unwrap')).toMatch(/^\d+-\d+$/u);
  expect(await store.verify()).toEqual([]);
}, 10_000);
