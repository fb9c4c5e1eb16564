import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { unplaced } from '../../src/audit/batch.ts';
import { contextMacInput } from '../../src/audit/entry.ts';
import { READING_MS, ReadingSessions } from '../../src/audit/reading-sessions.ts';
import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { createAuditLog } from '../../src/audit/log.ts';
import type { AuditLogOptions, RunningAuditLog } from '../../src/audit/log.ts';
import { StaleAnswer } from '../../src/audit/ports.ts';
import type { AuditQuery, AuditRecord } from '../../src/audit/ports.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { TwofoldError } from '../../src/errors.ts';
import { rememberedMac } from '../../src/keyring/remembered-mac.ts';
import { draftOf, INSTANCE, KEY_ID, otherKey, standingOf, thisKey } from './drafts.ts';
import { MemoryAuditStore, softwareMac } from './memory-store.ts';
import type { Fault } from './memory-store.ts';
import { stopwatch } from '../waited.ts';

let store: MemoryAuditStore;
let epoch: SecurityEpoch;
let log: RunningAuditLog;

const logOf = (options: Partial<AuditLogOptions> = {}): RunningAuditLog =>
  createAuditLog({
    store,
    mac: softwareMac,
    epoch,
    instance: INSTANCE,
    zone: 'zone-a',
    deadlineMs: 3000,
    changeDeadlineMs: 5000,
    countsAfterMs: 30,
    ...options,
  });

/** The same with other settings. */
const restart = async (options: Partial<AuditLogOptions>): Promise<void> => {
  await log.stop();
  log = logOf(options);
  await log.start();
};

beforeEach(async () => {
  store = new MemoryAuditStore();
  epoch = new SecurityEpoch(store.epoch);
  log = logOf();
  await log.start();
});

afterEach(async () => {
  store.plan = () => 'none';
  await log.stop(1000);
  await store.quiet();
  expect(await store.verify()).toEqual([]);
});

/** Faults for the next calls of one kind, in order; then none. */
const faults = (call: 'append' | 'commit', ...planned: Fault[]): void => {
  store.plan = (made) => (made === call ? (planned.shift() ?? 'none') : 'none');
};
const entryOf = (id: string) => {
  const [lane = 0, n = 0] = id.split('-').map(Number);
  const found = store.lane(lane).entries[n - 1]?.entry;
  if (found === undefined) throw new TypeError(`no entry ${id}`);
  return decodeEntry(found.body);
};
const requestIds = (): string[] => store.all().map(({ body }) => decodeEntry(body).requestId);
const timeOf = (record: AuditRecord | null): number => record?.at.getTime() ?? 0;
const everything: AuditQuery = {
  pageSize: 50,
  after: null,
  namespace: 'default',
  operation: null,
  keyId: null,
  keyRef: null,
  subject: null,
  outcome: null,
  from: null,
  until: null,
};

describe('recording', () => {
  it('resolves with the place of an entry that is durable', async () => {
    const id = await log.record(draftOf({ requestId: 'mine' }), standingOf(1));
    expect(entryOf(id)).toMatchObject({ requestId: 'mine', zone: 'zone-a', instance: INSTANCE });
    expect(entryOf(id).actor).toEqual({ ...draftOf().actor });
  });

  it('shares one append among what waits', async () => {
    store.delayMs = 5;
    const before = store.appends.length;
    await Promise.all(
      Array.from({ length: 600 }, () => log.record(draftOf(), standingOf(epoch.current))),
    );
    expect(store.appends.length - before).toBeLessThanOrEqual(4);
    expect(Math.max(...store.appends.map(({ entries }) => entries.length))).toBe(256);
  });

  it('keeps batches under a mebibyte and an entry', async () => {
    store.delayMs = 5;
    const detail = { reason: 'x'.repeat(60_000) };
    await Promise.all(
      Array.from({ length: 60 }, () => log.record(draftOf({ detail }), standingOf(1))),
    );
    const sizes = store.appends.map(({ entries }) =>
      entries.reduce((sum, { body }) => sum + body.length, 0),
    );
    expect(Math.max(...sizes)).toBeLessThan(1024 * 1024 + 65_536);
  });

  it('keeps context values out and their HMAC in', async () => {
    const contextValues = new TextEncoder().encode('marker-of-the-context');
    const id = await log.record(draftOf({ contextValues }), standingOf(1));
    const expected = await softwareMac(contextMacInput(contextValues));
    expect(Buffer.from(entryOf(id).contextHmac ?? [])).toEqual(expected);
    for (const { body } of store.all()) {
      expect(Buffer.from(body).includes('marker-of-the-context')).toBe(false);
    }
  });

  it('refuses an entry over the limit without harm to others', async () => {
    const reason = 'x'.repeat(70_000);
    const [large, small] = await Promise.allSettled([
      log.record(draftOf({ detail: { reason } }), standingOf(1)),
      log.record(draftOf(), standingOf(1)),
    ]);
    expect(large).toMatchObject({ status: 'rejected', reason: { code: 'internal' } });
    expect(small.status).toBe('fulfilled');
  });

  it('writes index columns that the database takes, whatever a caller names', async () => {
    const keyRef = `\0${'k'.repeat(5000)}`;
    const id = await log.record(draftOf({ keyRef }), standingOf(1));
    const [row] = store.all().filter(({ n, lane }) => `${lane}-${n}` === id);
    expect(row?.index.keyRef).toHaveLength(256);
    expect(row?.index.keyRef).not.toContain('\0');
    const found = await log.list({ ...everything, keyRef });
    expect(found.items.map((item) => item.id)).toEqual([id]);
  });

  it('answers audit_unavailable when the HSM makes no HMAC, and goes on when it does', async () => {
    let broken = false;
    const mac = async (data: Uint8Array) => {
      if (broken) throw new TwofoldError('hsm_unavailable');
      return softwareMac(data);
    };
    const other = logOf({ mac });
    await other.start();
    broken = true;
    const contextValues = Uint8Array.of(1);
    await expect(other.record(draftOf({ contextValues }), standingOf(1))).rejects.toMatchObject({
      code: 'audit_unavailable',
    });
    const waits = other.record(draftOf({ requestId: 'after the HSM' }), standingOf(1));
    await sleep(60);
    expect(other.health()).toMatchObject({ ok: false, waiting: 1 });
    broken = false;
    expect(entryOf(await waits).requestId).toBe('after the HSM');
    expect(other.health()).toMatchObject({ ok: true, waiting: 0, failures: 0 });
    await other.stop();
  });
});

describe('a page', () => {
  it('begins at `from` and ends before `until`', async () => {
    const at = new Date(await log.read(await log.record(draftOf(), standingOf(1))).then(timeOf));
    const found = async (range: Partial<AuditQuery>): Promise<number> =>
      (await log.list({ ...everything, operation: 'wrap', ...range })).items.length;
    const after = new Date(at.getTime() + 1);
    expect(await found({ from: at, until: after })).toBe(1);
    expect(await found({ until: at })).toBe(0);
    expect(await found({ from: after })).toBe(0);
  });
});

describe('faults of an append', () => {
  it.each<[string, Fault[]]>([
    ['refused once', ['refused']],
    ['lost before it was applied', ['lost-before']],
    ['lost after it was applied', ['lost-after']],
    ['applied later', ['lost-late']],
    ['lost, then refused, then lost again', ['lost-before', 'refused', 'lost-after', 'refused']],
    ['lane closed', ['closed']],
    ['tail gone', ['gone']],
    ['lost, then lane closed', ['lost-before', 'closed']],
    ['applied and lost, then lane closed', ['lost-after', 'closed']],
  ])('%s: the entry is there exactly once', async (_name, planned) => {
    faults('append', ...planned);
    const id = await log.record(draftOf({ requestId: 'once' }), standingOf(1));
    expect(entryOf(id).requestId).toBe('once');
    await store.quiet();
    expect(requestIds().filter((found) => found === 'once')).toHaveLength(1);
  });

  it.each(['gone', 'behind', 'ahead'] as const)(
    'written and lost, then refused by an old primary (%s): each entry is there exactly once',
    async (refusal) => {
      const planned: Fault[] = ['lost-after', refusal];
      const later: Promise<string>[] = [];
      store.plan = (made) => {
        const fault = made === 'append' ? (planned.shift() ?? 'none') : 'none';
        // What comes meanwhile is placed behind it, and not together with it.
        if (fault === refusal)
          later.push(log.record(draftOf({ requestId: 'later' }), standingOf(1)));
        return fault;
      };
      await log.record(draftOf({ requestId: 'first' }), standingOf(1));
      expect(await Promise.all(later)).toHaveLength(1);
      expect(requestIds().filter((id) => id !== '')).toEqual(['first', 'later']);
    },
  );

  it('written and lost, and its rows archived before it is sent again: is there once', async () => {
    const { useLane } = log.health();
    const planned: Fault[] = ['lost-after'];
    store.plan = (call, batch) =>
      call === 'append' && batch?.lane === useLane ? (planned.shift() ?? 'gone') : 'none';
    const id = await log.record(draftOf({ requestId: 'once' }), standingOf(1));
    expect([id.split('-')[0], entryOf(id).requestId]).toEqual([String(useLane), 'once']);
    expect(requestIds().filter((found) => found === 'once')).toHaveLength(1);
  });

  it('written and lost, in a lane that is gone from the database: given up', async () => {
    const { useLane } = log.health();
    const planned: Fault[] = ['lost-before'];
    store.plan = (call, batch) =>
      call === 'append' && batch?.lane === useLane ? (planned.shift() ?? 'gone') : 'none';
    const { entries, batches } = store.lane(useLane ?? 0);
    entries.length = 0;
    batches.length = 0;
    const id = await log.record(draftOf({ requestId: 'once' }), standingOf(1));
    expect(entryOf(id).requestId).toBe('once');
    expect(log.health().useLane).not.toBe(useLane);
  });

  it('a new lane begins by naming the one that was lost', async () => {
    const { useLane } = log.health();
    faults('append', 'closed');
    const id = await log.record(draftOf(), standingOf(1));
    const [lane = 0] = id.split('-').map(Number);
    expect(lane).not.toBe(useLane);
    expect(entryOf(`${lane}-1`)).toMatchObject({
      operation: 'lane.open',
      detail: { kind: 'use', replaces: useLane },
    });
  });

  it('content that the database refuses fails alone', async () => {
    store.plan = (call, batch) =>
      call === 'append' && batch?.entries.some(({ index }) => index.keyRef === 'poison')
        ? 'content'
        : 'none';
    const results = await Promise.allSettled(
      ['a', 'b', 'poison', 'c', 'd'].map((keyRef) =>
        log.record(draftOf({ keyRef, requestId: keyRef }), standingOf(1)),
      ),
    );
    expect(results.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'fulfilled',
      'fulfilled',
    ]);
    expect(results[2]).toMatchObject({ reason: { code: 'audit_unavailable' } });
    expect(requestIds()).not.toContain('poison');
  });

  it('a lane that takes nothing any more is given up', async () => {
    const { useLane } = log.health();
    store.plan = (call, batch) =>
      call === 'append' && batch?.lane === useLane ? 'content' : 'none';
    const outcomes: string[] = [];
    for (let index = 0; index < 6; index += 1) {
      const [outcome] = await Promise.allSettled([log.record(draftOf(), standingOf(1))]);
      outcomes.push(outcome.status);
    }
    expect(outcomes).toContain('rejected');
    expect(outcomes.slice(-2)).toEqual(['fulfilled', 'fulfilled']);
  });

  it('keeps the order of what was refused', async () => {
    faults('append', 'refused');
    const first = ['1', '2', '3'].map((requestId) =>
      log.record(draftOf({ requestId }), standingOf(1)),
    );
    await sleep(2);
    await Promise.all([...first, log.record(draftOf({ requestId: '4' }), standingOf(1))]);
    expect(requestIds().filter((id) => id !== '')).toEqual(['1', '2', '3', '4']);
  });

  it('refuses at once when too much waits, and takes more when it no longer does', async () => {
    await restart({ deadlineMs: 2500 });
    store.plan = (call) => (call === 'append' ? 'lost-before' : 'none');
    const draft = draftOf({ detail: { reason: 'x'.repeat(60_000) } });
    const elapsed = stopwatch();
    const waiting = Array.from({ length: 1500 }, () => log.record(draft, standingOf(1)));
    const first = await Promise.race(waiting.map((record) => record.catch(() => elapsed())));
    // Not at the deadline: those over the limit do not wait for it.
    expect(first).toBeLessThan(2500);
    const statuses = (await Promise.allSettled(waiting)).map(({ status }) => status);
    expect(new Set(statuses)).toEqual(new Set(['rejected']));
    store.plan = () => 'none';
    let id: string | null = null;
    while (id === null) id = await log.record(draftOf(), standingOf(1)).catch(() => null);
  });

  it('gives up at the deadline, and sends the same bytes until it knows', async () => {
    await restart({ deadlineMs: 400 });
    store.plan = (call) => (call === 'append' ? 'lost-before' : 'none');
    const elapsed = stopwatch();
    const [first, second] = await Promise.allSettled([
      log.record(draftOf({ requestId: 'sent' }), standingOf(1)),
      sleep(30).then(() => log.record(draftOf({ requestId: 'never sent' }), standingOf(1))),
    ]);
    expect(elapsed()).toBeLessThan(2000);
    expect(first).toMatchObject({ status: 'rejected', reason: { code: 'audit_unavailable' } });
    expect(second).toMatchObject({ status: 'rejected', reason: { code: 'audit_unavailable' } });
    expect(log.health().ok).toBe(false);
    store.plan = () => 'none';
    await log.record(draftOf({ requestId: 'later' }), standingOf(1));
    expect(requestIds()).toEqual(expect.arrayContaining(['sent', 'later']));
    expect(requestIds()).not.toContain('never sent');
  });
});

describe('stale answers', () => {
  it('are refused when a change touched them, and sent again when not', async () => {
    store.change(thisKey);
    const results = await Promise.allSettled([
      log.record(draftOf(), standingOf(1)),
      log.record(
        draftOf({ requestId: 'untouched' }),
        standingOf(1, { keyId: null, keyName: 'another' }),
      ),
    ]);
    expect(results[0]).toMatchObject({ status: 'rejected', reason: expect.any(StaleAnswer) });
    expect(results[1].status).toBe('fulfilled');
    expect(epoch.current).toBe(2);
    expect(store.all().find(({ epoch: e }) => e === 2)).toBeDefined();
  });

  it('are refused before they are sent once the change is known here', async () => {
    epoch.advance([{ ...thisKey, epoch: 2 }]);
    store.change(thisKey);
    const before = store.appends.length;
    await expect(log.record(draftOf(), standingOf(1))).rejects.toBeInstanceOf(StaleAnswer);
    expect(store.appends.length).toBe(before);
    await log.record(draftOf(), standingOf(2));
  });

  it('is not what a change of another key makes of them', async () => {
    store.change(otherKey);
    const id = await log.record(draftOf(), standingOf(1));
    expect(entryOf(id).epoch).toBe(2);
  });

  it('a batch lost before it was applied is judged anew under the new epoch', async () => {
    faults('append', 'lost-before');
    const pending = log.record(draftOf(), standingOf(1));
    await sleep(5);
    store.change(thisKey);
    await expect(pending).rejects.toBeInstanceOf(StaleAnswer);
  });

  it('a batch that was applied before the change stands', async () => {
    faults('append', 'lost-after');
    const pending = log.record(draftOf({ requestId: 'before' }), standingOf(1));
    await sleep(5);
    store.change(thisKey);
    expect(entryOf(await pending)).toMatchObject({ requestId: 'before', epoch: 1 });
  });

  it('a change that is known when the refusal arrives is not read', async () => {
    let readings = 0;
    store.plan = (call) => {
      if (call === 'changesSince') readings += 1;
      return 'none';
    };
    let sealed = 0;
    await restart({
      mac: (data) => {
        sealed += 1;
        // Between the sealing of the batch and its sending, as a change of this instance's own.
        if (sealed === 2) epoch.advance([{ ...otherKey, epoch: store.change(otherKey) }]);
        return softwareMac(data);
      },
    });
    readings = 0;
    const before = epoch.current;
    sealed = 1;
    const id = await log.record(draftOf(), standingOf(before));
    expect(entryOf(id).epoch).toBe(before + 1);
    expect(readings).toBe(0);
  });

  it('an old primary that answers with a passed epoch is not believed', async () => {
    epoch.advance([{ ...otherKey, epoch: 2 }]);
    const pending = log.record(draftOf(), standingOf(2));
    await sleep(60);
    store.change(otherKey);
    await pending;
  });
});

describe('changes', () => {
  const suspend = (draft = draftOf({ operation: 'keys.suspend', requestId: 'suspend' })) =>
    log.change(draft, (entry) => store.commit(entry, epoch.current, thisKey));

  it('commit effect and entry together, and are known here at once', async () => {
    const { result, auditId } = await suspend();
    expect(result).toEqual({ epoch: 2 });
    expect(epoch.current).toBe(2);
    expect(entryOf(auditId)).toMatchObject({ operation: 'keys.suspend', epoch: 1 });
    expect(store.effects).toHaveLength(1);
  });

  it('run one at a time', async () => {
    store.delayMs = 3;
    let running = 0;
    const change = () =>
      log.change(draftOf(), async (entry) => {
        running += 1;
        expect(running).toBe(1);
        const outcome = await store.commit(entry, epoch.current, otherKey);
        running -= 1;
        return outcome;
      });
    const ids = await Promise.all([change(), change(), change()]);
    expect(new Set(ids.map(({ auditId }) => auditId)).size).toBe(3);
  });

  it('are stale when another change came first', async () => {
    store.change(otherKey);
    const change = log.change(draftOf(), (entry) => store.commit(entry, 1, thisKey));
    await expect(change).rejects.toBeInstanceOf(StaleAnswer);
    expect(epoch.current).toBe(2);
    await suspend();
  });

  it.each(['conflict', 'key_exists', 'database_unavailable'] as const)(
    'pass %s on and reuse the number',
    async (code) => {
      const failing = log.change(draftOf(), async () => {
        throw new TwofoldError(code);
      });
      await expect(failing).rejects.toMatchObject({ code });
      expect((await suspend()).auditId).toMatch(/-2$/u);
    },
  );

  it('applied and lost: turn out done', async () => {
    faults('commit', 'lost-after');
    const { result, auditId } = await suspend();
    expect(result).toEqual({ epoch: 2 });
    expect(entryOf(auditId).requestId).toBe('suspend');
    expect(store.effects).toHaveLength(1);
  });

  it('lost before: are prevented for ever, and the log says so', async () => {
    faults('commit', 'lost-before');
    await expect(suspend()).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(store.effects).toEqual([]);
    const [unwritten] = store
      .all()
      .map(({ body }) => decodeEntry(body))
      .filter(({ requestId }) => requestId === 'suspend');
    expect(unwritten).toMatchObject({
      operation: 'keys.suspend',
      outcome: 'database_unavailable',
      keyId: KEY_ID,
      detail: { unwritten: expect.stringMatching(/^[0-9a-f]{64}$/u) },
    });
    expect((await suspend()).auditId).toMatch(/-3$/u);
  });

  it('that land late: one of effect and refusal, never both', async () => {
    for (let round = 0; round < 20; round += 1) {
      faults('commit', 'lost-late');
      const effects = store.effects.length;
      const done = await suspend().then(
        () => 1,
        () => 0,
      );
      await store.quiet();
      expect(store.effects.length - effects).toBe(done);
    }
  });

  it('answer at the deadline, settle in the background, and the lane goes on', async () => {
    await restart({ changeDeadlineMs: 400 });
    store.plan = (call) => (call === 'commit' || call === 'leafAt' ? 'lost-after' : 'none');
    const elapsed = stopwatch();
    await expect(suspend()).rejects.toMatchObject({ code: 'audit_unavailable' });
    expect(elapsed()).toBeLessThan(2000);
    const second = log.change(draftOf(), () => Promise.reject(new Error('never begun')));
    await expect(second).rejects.toMatchObject({ code: 'database_unavailable' });
    store.plan = () => 'none';
    expect((await suspend()).auditId).toMatch(/-3$/u);
    expect(store.effects).toHaveLength(2);
  });

  it('an error that nobody foresaw counts as unknown', async () => {
    const change = log.change(draftOf(), async () => {
      throw new RangeError('a defect');
    });
    await expect(change).rejects.toMatchObject({ code: 'internal' });
    await suspend();
  });

  it('a lane that was closed before its last entry is no obstacle to stopping', async () => {
    const { changeLane, useLane } = log.health();
    for (const lane of [changeLane, useLane]) store.lane(lane ?? 0).closed = true;
    expect(await log.stop()).toEqual({ closed: true });
  });

  it('go on in a new lane when theirs is closed', async () => {
    const { changeLane } = log.health();
    faults('commit', 'closed');
    await expect(suspend()).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(store.effects).toEqual([]);
    const { auditId } = await suspend();
    expect(auditId).not.toMatch(new RegExp(`^${changeLane}-`, 'u'));
  });

  it('closed under an unknown outcome: not done, and known to be', async () => {
    store.plan = (call) => {
      if (call === 'append') return 'closed';
      return call === 'commit' ? 'lost-before' : 'none';
    };
    await expect(suspend()).rejects.toMatchObject({ code: 'database_unavailable' });
    store.plan = () => 'none';
    await suspend();
    expect(store.effects).toHaveLength(1);
  });

  it.each<Fault>(['gone', 'content'])(
    'answer that nobody knows when the place cannot be taken (%s), red until the probe reopens',
    async (fault) => {
      const { changeLane } = log.health();
      store.plan = (call) => {
        if (call === 'append') return fault;
        return call === 'commit' ? 'lost-before' : 'none';
      };
      await expect(suspend()).rejects.toMatchObject({ code: 'audit_unavailable' });
      expect(log.health()).toMatchObject({ ok: false, changeLane: null });
      store.plan = () => 'none';
      await log.probe();
      const { ok, changeLane: fresh } = log.health();
      expect(ok).toBe(true);
      expect(fresh).not.toBe(changeLane);
      await suspend();
      expect(store.effects).toHaveLength(1);
    },
  );

  it('without an answer for over a second make health red', async () => {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const change = log.change(draftOf(), async (entry) => {
      await promise;
      return store.commit(entry, epoch.current, otherKey);
    });
    await sleep(1100);
    expect(log.health().ok).toBe(false);
    resolve(undefined);
    await change;
    expect(log.health().ok).toBe(true);
  });
});

describe('reading', () => {
  it('gives back what was recorded', async () => {
    const item = { keyVersion: 1, outcome: 'ok', hash: new Uint8Array(16).fill(1) };
    const draft = draftOf({ items: [item, item], detail: { reason: 'test' } });
    const id = await log.record(draft, standingOf(1));
    const record = await log.read(id);
    const hash = Uint8Array.from(await log.hash(item.hash, 'item'));
    expect({ ...record?.draft, contextValues: null, aad: null }).toEqual({
      ...draft,
      contextHmac: null,
      aadHmac: null,
      items: [item, item].map((each) => ({ ...each, hash })),
    });
    expect(hash).not.toEqual(item.hash);
    expect(record).toMatchObject({ id, zone: 'zone-a', instance: INSTANCE, epoch: 1 });
  });

  it('has hashes of items under one key, also where who makes MACs remembers them', async () => {
    const mac = rememberedMac(softwareMac, 10);
    const item = { keyVersion: 1, outcome: 'ok', hash: new Uint8Array(16).fill(1) };
    const origin = { at: new Date(0), zone: 'zone-a', instance: INSTANCE };
    const made = () => unplaced(draftOf({ items: [item] }), origin, mac);
    const { facts } = await made();
    expect((await made()).facts).toEqual(facts);
  });

  it.each(['', '1', '1-0', '0-1', '01-1', '1-1 ', '1-1-1', 'a-b', '999-1', `1-${'9'.repeat(20)}`])(
    'knows no entry %j',
    async (id) => {
      expect(await log.read(id)).toBeNull();
    },
  );

  it('pages newest first, by filter', async () => {
    for (let index = 0; index < 7; index += 1) {
      const subject = index % 2 === 0 ? 'even' : 'odd';
      const actor = { ...draftOf().actor, subject };
      await log.record(draftOf({ actor, requestId: `r${index}` }), standingOf(1));
    }
    const query = { ...everything, subject: 'even', pageSize: 3 };
    const first = await log.list(query);
    const second = await log.list({ ...query, after: first.next });
    expect([...first.items, ...second.items].map(({ draft }) => draft.requestId)).toEqual([
      'r6',
      'r4',
      'r2',
      'r0',
    ]);
    expect(second.next).toBeNull();
  });

  it('ends a page at 4 MiB, with the next one beginning where it ended', async () => {
    const detail = { long: 'x'.repeat(60_000) };
    for (let index = 0; index < 80; index += 1) {
      await log.record(draftOf({ detail, requestId: `r${index}` }), standingOf(1));
    }
    const asked: number[] = [];
    const entries = store.entries.bind(store);
    store.entries = async (query) => {
      asked.push(query.pageSize);
      return entries(query);
    };
    const query = { ...everything, subject: draftOf().actor.subject, pageSize: 1000 };
    const first = await log.list(query);
    const second = await log.list({ ...query, after: first.next });
    expect(first.items).toHaveLength(
      Math.ceil((4 * 1024 * 1024) / (first.items[0]?.body.length ?? 1)),
    );
    expect(Math.max(...asked)).toBe(64);
    const ids = [...first.items, ...second.items].map(({ draft }) => draft.requestId);
    expect(ids).toEqual(Array.from({ length: 80 }, (_, index) => `r${79 - index}`));
    expect(second.next).toBeNull();
  });

  it('refuses edited bytes and moved rows', async () => {
    const id = await log.record(draftOf(), standingOf(1));
    const stored = store.all().find((e) => `${e.lane}-${e.n}` === id);
    if (stored === undefined) throw new Error('no entry');
    const { n } = stored;
    const body = Uint8Array.from(stored.body);
    body[body.length - 20] = (body[body.length - 20] ?? 0) ^ 1;
    const edits = [
      { ...stored, body },
      { ...stored, leaf: body.slice(0, 32) },
      { ...stored, n: n + 1 },
    ];
    for (const edited of edits) {
      store.entry = async () => edited;
      await expect(log.read(id)).rejects.toMatchObject({ code: 'integrity_failed' });
    }
  });

  it('gives as candidate what its columns say, and tells by its bytes', async () => {
    await log.record(draftOf(), standingOf(1));
    const rows = await store.entries(everything);
    store.entries = async () => rows;
    const found = await log.list({ ...everything, subject: 'mallory' });
    expect(found.items).toEqual([]);
  });

  it.each([
    { at: new Date(1) },
    // As PostgreSQL's driver gives it.
    { at: Number.POSITIVE_INFINITY as unknown as Date },
    { namespace: 'other' },
    { operation: 'sign' },
    { keyId: INSTANCE },
    { keyRef: 'other' },
    { subject: 'mallory' },
    { outcome: 'forbidden' },
  ])('refuses an entry whose index columns say %j', async (edit) => {
    const id = await log.record(draftOf(), standingOf(1));
    const [stored, ...rest] = (await store.entries(everything)).entries;
    if (stored === undefined) throw new Error('no entry');
    const edited = { ...stored, columns: { ...stored.columns, ...edit } };
    store.entry = async () => edited;
    store.entries = async () => ({ entries: [edited, ...rest], next: null });
    await expect(log.read(id)).rejects.toMatchObject({ code: 'integrity_failed' });
    await expect(log.list(everything)).rejects.toMatchObject({ code: 'integrity_failed' });
  });
});

describe('counts of unauthenticated requests', () => {
  const counts = () =>
    store
      .all()
      .map(({ body }) => decodeEntry(body))
      .filter(({ operation }) => operation === 'unauthenticated')
      .map(({ detail }) => detail);

  it('are one entry per interval', async () => {
    for (let index = 0; index < 5; index += 1) log.countAnonymous('192.0.2.1', 'token_missing');
    log.countAnonymous('::ffff:192.0.2.1', 'token_invalid');
    await sleep(100);
    expect(counts()).toEqual([
      {
        '192.0.2.1 token_missing': 5,
        '192.0.2.1 token_invalid': 1,
        requests: 6,
        since: expect.any(Number),
      },
    ]);
    log.countAnonymous('192.0.2.1', 'token_missing');
    await sleep(100);
    expect(counts()).toHaveLength(2);
  });

  it('outlast an outage', async () => {
    store.plan = (call) => (call === 'append' ? 'refused' : 'none');
    log.countAnonymous('192.0.2.1', 'token_missing');
    await sleep(600);
    store.plan = () => 'none';
    await log.record(draftOf(), standingOf(1)).catch(() => undefined);
    expect(counts()).toHaveLength(1);
  });

  it('are one entry in an outage, and a second one after it', async () => {
    store.plan = (call) => (call === 'append' ? 'refused' : 'none');
    for (let index = 0; index < 8; index += 1) {
      log.countAnonymous(`192.0.2.${index}`, 'token_missing');
      await sleep(50);
    }
    expect(log.health().waiting).toBeLessThanOrEqual(1);
    store.plan = () => 'none';
    await log.record(draftOf(), standingOf(1));
    await sleep(100);
    const requests = counts().map((detail) => Number(detail['requests']));
    expect(requests).toHaveLength(2);
    expect(requests.reduce((sum, count) => sum + count, 0)).toBe(8);
  });

  it('are all sent by a stop in an outage that ends', async () => {
    store.plan = (call) => (call === 'append' ? 'refused' : 'none');
    log.countAnonymous('192.0.2.1', 'token_missing');
    await sleep(60);
    log.countAnonymous('192.0.2.1', 'token_missing');
    const stopped = log.stop();
    store.plan = () => 'none';
    expect(await stopped).toEqual({ closed: true });
    const requests = counts().map((detail) => Number(detail['requests']));
    expect(requests).toEqual([1, 1]);
  });

  it('are sent before the log stops', async () => {
    log.countAnonymous('192.0.2.1', 'token_missing');
    await log.stop();
    expect(counts()).toHaveLength(1);
  });
});

describe('start and stop', () => {
  const operations = (lane: number) =>
    store.lane(lane).entries.map(({ entry }) => decodeEntry(entry.body).operation);

  it('stand at both ends of the lanes', async () => {
    const { useLane, changeLane } = log.health();
    await log.record(draftOf(), standingOf(1));
    expect(await log.stop()).toEqual({ closed: true });
    expect(operations(useLane ?? 0)).toEqual(['system.start', 'wrap', 'system.stop']);
    expect(operations(changeLane ?? 0)).toEqual(['lane.open', 'lane.close']);
    expect([...store.lanes.values()].map(({ closed }) => closed)).toEqual([true, true]);
    const last = store.lane(useLane ?? 0).entries.at(-1)?.entry.body ?? new Uint8Array();
    expect(decodeEntry(last).detail).toEqual({ last: true });
    await expect(log.record(draftOf(), standingOf(1))).rejects.toMatchObject({
      code: 'shutting_down',
    });
  });

  it('a start that fails leaves nothing running', async () => {
    store.plan = (call) => (call === 'append' ? 'refused' : 'none');
    const other = logOf({ changeDeadlineMs: 50 });
    await expect(other.start()).rejects.toMatchObject({ code: 'audit_unavailable' });
    const before = store.appends.length;
    await sleep(400);
    expect(store.appends.length).toBe(before);
    await expect(other.record(draftOf(), standingOf(1))).rejects.toMatchObject({
      code: 'shutting_down',
    });
  });

  it('what waits is sent before the last entry', async () => {
    store.delayMs = 20;
    const records = [1, 2, 3].map(() => log.record(draftOf(), standingOf(1)));
    await sleep(5);
    await log.stop();
    await Promise.all(records);
  });

  it('leave the lanes open when the last entry cannot be written, and end in time', async () => {
    store.plan = (call) => (call === 'append' ? 'lost-before' : 'none');
    const elapsed = stopwatch();
    expect(await log.stop(150)).toEqual({ closed: false });
    expect(elapsed()).toBeLessThan(1500);
    expect([...store.lanes.values()].map(({ closed }) => closed)).toEqual([false, false]);
  });
});

describe('a session of reading', () => {
  const read = (changes = {}) => draftOf({ operation: 'audit.read', ...changes });

  it('makes one entry, and its later reads leave none', async () => {
    const id = await log.reading(read(), standingOf(1));
    const before = store.all().length;
    expect(await log.reading(read({ requestId: 'later' }), standingOf(1))).toBe(id);
    expect(store.all()).toHaveLength(before);
    const others = [
      { namespace: 'team' },
      { source: '192.0.2.8' },
      { operation: 'audit.hash' },
      { decision: null },
      { actor: { ...draftOf().actor, session: new Uint8Array(16) } },
      { actor: { ...draftOf().actor, roles: [] } },
    ];
    const ids = await Promise.all(others.map((each) => log.reading(read(each), standingOf(1))));
    expect(new Set([id, ...ids]).size).toBe(others.length + 1);
  });

  it('leaves no answer under an epoch that has ended, also where it would make no entry', async () => {
    await log.reading(read(), standingOf(1));
    store.change(thisKey);
    expect(epoch.current).toBe(1);
    await expect(log.reading(read(), standingOf(1))).rejects.toBeInstanceOf(StaleAnswer);
    expect(epoch.current).toBe(2);
    store.change(otherKey);
    await log.reading(read(), standingOf(2));
  });

  it('leaves no answer where the database does not confirm it', async () => {
    await log.reading(read(), standingOf(1));
    store.plan = (call) => (call === 'confirm' ? 'refused' : 'none');
    await expect(log.reading(read(), standingOf(1))).rejects.toMatchObject({
      code: 'audit_unavailable',
    });
  });

  it('ends after a quarter of an hour, and is one of so many', () => {
    let now = 0;
    const sessions = new ReadingSessions(() => now);
    sessions.begin(read(), '1-1');
    now = READING_MS - 1;
    expect(sessions.find(read())).toBe('1-1');
    now = READING_MS;
    expect(sessions.find(read())).toBeNull();
    sessions.begin(read(), '1-2');
    for (let n = 0; n < 1_024; n += 1)
      sessions.begin(read({ source: String(n) }), `2-${String(n)}`);
    expect(sessions.find(read())).toBeNull();
    expect(sessions.find(read({ source: '1023' }))).toBe('2-1023');
  });
});
