/** Cold storage over a real database: what goes, what stays, and what goes on. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { archivable, archive } from '../../src/audit/archive.ts';
import type { ArchiveParts, ArchiveRequest } from '../../src/audit/archive.ts';
import { LogReading } from '../../src/audit/log-reading.ts';
import { parseTlogProof } from '../../src/audit/tree/tlog-proof.ts';
import { verifyInclusion } from '../../src/audit/tree/proofs.ts';
import { TwofoldError } from '../../src/errors.ts';
import { openArchiveStore } from '../../src/store/archive-store.ts';
import type { OwnedArchive } from '../../src/store/archive-store.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { rowsAsOwner, withOwner } from '../store/owner.ts';
import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { startInstance } from './instances.ts';
import type { TestInstance } from './instances.ts';
import { TestLane, testSequencer, wholeLog } from './sequenced-log.ts';
import type { WholeLog } from './sequenced-log.ts';

const PLACE = 'the shelf';
let database: TestDatabase;
let store: Store;
let owned: OwnedArchive;
let lanes: TestLane[];
/** Before anything went. */
let whole: WholeLog;
let request: ArchiveRequest;
/** That of the command. */
let instance: TestInstance;
const record = (...entry: Parameters<TestInstance['log']['recordOwn']>) =>
  instance.log.recordOwn(...entry);

beforeAll(async () => {
  database = await startTestDatabase();
  store = openStore({ url: database.appUrl });
  owned = openArchiveStore({ url: database.ownerUrl });
  lanes = [await TestLane.open(store), await TestLane.open(store), await TestLane.open(store)];
  const [busy, rare, closed] = lanes as [TestLane, TestLane, TestLane];
  await rare.append(1);
  for (let batch = 0; batch < 5; batch += 1) await busy.append(200);
  await closed.append(9);
  await closed.close();
  await testSequencer(store).drain();
  await busy.append(700);
  await testSequencer(store).drain();
  whole = await wholeLog(database);
  const made = { from: 0, until: whole.size, root: whole.root };
  request = { export: made, place: PLACE, before: 1_300, operator: 'ops(7)' };
}, 60_000);
afterAll(async () => {
  await instance.stop();
  await owned.close();
  await store.close();
  await database.stop();
});

const rows = async (): Promise<string[]> => {
  const sql = 'select lane || $1 || n as id from public.entry order by lane, n';
  return (await rowsAsOwner<{ id: string }>(database, sql, ['-'])).map(({ id }) => id);
};
const placeOf = (id = ''): { lane: number; n: number } => {
  const [lane = 0, n = 0] = id.split('-').map(Number);
  return { lane, n };
};

describe('what is no archive of this log', () => {
  it.each<[string, (made: ArchiveRequest['export']) => ArchiveRequest['export']]>([
    ['an export of another log', (made) => ({ ...made, root: new Uint8Array(32) })],
    ['one of a longer log', (made) => ({ ...made, until: made.until + 1 })],
    ['one that begins later', (made) => ({ ...made, from: 256 })],
  ])('%s is refused, and nothing goes', async (_, change) => {
    const other = { ...request, export: change(request.export) };
    const unasked = () => Promise.reject(new Error('an entry of what is refused'));
    await expect(archive({ ...owned, record: unasked }, other)).rejects.toMatchObject({
      code: 'conflict',
    });
    expect(await owned.log.archived()).toEqual({ until: 0, removed: 0, place: '' });
    expect(await rows()).toHaveLength(whole.size);
  });
});

describe('how far it goes', () => {
  it('is whole bundles, as old as wanted, that every sink has had', async () => {
    expect(await archivable(owned, request)).toEqual({ until: 1_280, heldBy: null });
    const ancient = await archivable(owned, { ...request, before: new Date(0) });
    expect(ancient).toEqual({ until: 0, heldBy: null });
    const tomorrow = new Date(Date.now() + 86_400_000);
    const all = await archivable(owned, { ...request, before: tomorrow });
    expect(all).toEqual({ until: 1_536, heldBy: null });
    await withOwner(database, (client) =>
      client.query(`insert into public.audit_sink (name, next) values ('slow', 600)`),
    );
    expect(await archivable(owned, request)).toEqual({ until: 512, heldBy: 'slow' });
    await withOwner(database, (client) => client.query('delete from public.audit_sink'));
  });
});

describe('a sink that begins while a command archives', () => {
  it('has all that it has not got: nothing is marked', async () => {
    const parts: ArchiveParts = {
      ...owned,
      record: async (_operation, { state }) => {
        if (state !== 'begun') return;
        await store.sinks.position('new').advance(null, 600);
      },
    };
    await expect(archive(parts, request)).rejects.toMatchObject({ code: 'conflict' });
    expect(await owned.log.archived()).toEqual({ until: 0, removed: 0, place: '' });
    expect(await archivable(owned, request)).toEqual({ until: 512, heldBy: 'new' });
    expect(await owned.store.forgetSink('new', 600)).toBe(true);
  });
});

describe('rows that are not in an archive', () => {
  it('nobody removes', async () => {
    const sql = 'delete from public.entry where n = 1';
    await expect(withOwner(database, (client) => client.query(sql))).rejects.toMatchObject({
      code: 'TF004',
    });
    await expect(store.pool.query(sql)).rejects.toMatchObject({ code: '42501' });
    await expect(
      store.pool.query('update public.log_archive set until = 256'),
    ).rejects.toMatchObject({ code: '42501' });
  });
});

describe('moving entries to the archive', () => {
  it('goes on where it was interrupted, at each of its steps', async () => {
    instance = await startInstance(database.appUrl);
    const steps: string[] = [];
    const failing = (at: number, applied: boolean): ArchiveParts => {
      let calls = 0;
      const step = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
        // After the one that fails nothing is done any more, as after a kill.
        if (calls > at) throw new Error('killed');
        const fails = calls++ === at;
        if (fails && !applied) throw new Error(`before ${name}`);
        const result = await work();
        steps.push(name);
        if (fails) throw new Error(`after ${name}`);
        return result;
      };
      const inner = owned.store;
      return {
        ...owned,
        record: (operation, detail) =>
          step(`record ${String(detail['state'])}`, () => record(operation, detail)),
        store: {
          ...inner,
          mark: (until, place) => step('mark', () => inner.mark(until, place)),
          // Small steps, so that there are several.
          remove: (to) =>
            step('remove', async () => {
              const { removed } = await owned.log.archived();
              return inner.remove(Math.min(to, removed + 512));
            }),
        },
      };
    };
    for (const [at, applied] of [
      [0, false],
      [0, true],
      [1, false],
      [1, true],
      [2, false],
      [2, true],
      [3, true],
      // All is removed: only the last entry is left to write.
      [2, false],
      [2, true],
    ] as const) {
      await expect(archive(failing(at, applied), request)).rejects.toThrow(/before|after/);
      const { until, removed } = await owned.log.archived();
      // Nothing is even marked before the entry that begins it is durable.
      expect(until).toBe(at === 0 || (at === 1 && !applied) ? 0 : 1_280);
      // Every row that is not said to be removed is there.
      const there = new Set(await rows());
      for (const { index, id } of whole.entries) if (index >= removed) expect(there).toContain(id);
    }
    const told = await archive({ ...owned, record }, request);
    expect(told).toEqual({ until: 1_280, removed: 1_280, place: PLACE, heldBy: null });
    expect(steps.slice(0, 3)).toEqual(['record begun', 'record begun', 'record begun']);
    expect(steps).toEqual(expect.arrayContaining(['mark', 'remove']));
    const gone = whole.entries.filter(({ index }) => index < 1_280).map(({ id }) => id);
    const there = await rows();
    // The one entry of the lane that is open and rarely written stays: the next append looks at it.
    expect(gone.filter((id) => there.includes(id))).toEqual([`${lanes[1]?.lane ?? 0}-1`]);
    expect(await archive({ ...owned, record }, request)).toEqual(told);
  });

  it('is told by entries: what goes, before it goes, and what went', async () => {
    const found = await rowsAsOwner<{ body: Buffer }>(
      database,
      'select body from public.entry where operation = $1 order by n',
      ['audit.archive'],
    );
    const told = found.map(({ body }) => decodeEntry(body).detail);
    const about = {
      until: 1_280,
      place: PLACE,
      atSize: whole.size,
      atRoot: whole.root.toString('base64'),
      operator: 'ops(7)',
    };
    // Each of the runs that were cut off has begun, but for the one that could not say so.
    expect(told.map(({ state }) => state)).toEqual([
      ...Array.from({ length: 7 }, () => 'begun'),
      ...['begun', 'done', 'begun', 'done', 'begun', 'done'],
    ]);
    for (const detail of told) expect(detail).toMatchObject(about);
    expect(told.at(-4)).toMatchObject({ state: 'begun', from: 1_280 });
    expect(told.at(-3)).toMatchObject({ state: 'done', removed: 1_280 });
  });

  it('is one command at a time, from the first question to the last entry', async () => {
    const other = openArchiveStore({ url: database.ownerUrl });
    try {
      const refused: unknown[] = [];
      const told = await archive(
        {
          ...owned,
          record: async (...entry) => {
            await archive({ ...other, record }, request).catch((error: unknown) =>
              refused.push(error),
            );
            return record(...entry);
          },
        },
        request,
      );
      expect(refused).toEqual(Array(2).fill(expect.objectContaining({ code: 'conflict' })));
      expect(await archive({ ...other, record }, request)).toEqual(told);
    } finally {
      await other.close();
    }
  });

  it('ends before it marks or removes where its turn was lost', async () => {
    const calls: string[] = [];
    const parts: ArchiveParts = {
      ...owned,
      record: async (_operation, detail) => {
        calls.push(String(detail['state']));
        if (detail['state'] !== 'begun') return;
        const sql = `select pg_terminate_backend(l.pid) from pg_locks l
          where l.locktype = 'advisory' and l.classid = 0 and l.objid = 7415`;
        await withOwner(database, (client) => client.query(sql));
      },
      store: {
        ...owned.store,
        mark: () => {
          calls.push('mark');
          return Promise.resolve();
        },
      },
    };
    await expect(archive(parts, request)).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(calls).toEqual(['begun', 'failed']);
    expect(await archive({ ...owned, record }, request)).toMatchObject({ until: 1_280 });
  });

  it('says what failed, where it lives on', async () => {
    const failing = {
      ...owned,
      record,
      store: {
        ...owned.store,
        mark: () => Promise.reject(new TwofoldError('storage_full')),
      },
    };
    await expect(archive(failing, request)).rejects.toMatchObject({ code: 'storage_full' });
    const [last] = await rowsAsOwner<{ body: Buffer }>(
      database,
      'select body from public.entry where operation = $1 order by n desc limit 1',
      ['audit.archive'],
    );
    const detail = decodeEntry(last?.body ?? Buffer.of()).detail;
    expect(detail).toMatchObject({ state: 'failed', code: 'storage_full' });
  });

  it('leaves proofs of what went as they were', async () => {
    const reading = new LogReading(store.log);
    for (const at of [0, 255, 256, 900, 1_279, 1_280, whole.size - 1]) {
      const entry = whole.entries[at];
      const place = placeOf(entry?.id);
      const leaf = await reading.leafAt(place);
      expect(Buffer.from(leaf ?? [])).toEqual(entry?.leaf);
      if (leaf === null) continue;
      const { index, hashes } = parseTlogProof(await reading.proof({ ...place, leaf }));
      expect(index).toBe(at);
      const claim = { index: at, leaf, size: whole.size, root: whole.root };
      expect(verifyInclusion(claim, hashes)).toBe(true);
    }
    expect(await reading.consistency(300, whole.size)).not.toHaveLength(0);
  });

  it('says where they are', async () => {
    const reading = new LogReading(store.log);
    const told = { code: 'entry_archived', message: expect.stringContaining(PLACE) as unknown };
    await expect(reading.tile({ level: 'entries', index: 4, width: 256 })).rejects.toMatchObject(
      told,
    );
    await expect(reading.requireStored(placeOf(whole.entries[700]?.id))).rejects.toMatchObject(
      told,
    );
    await expect(store.log.entries(1_000, 1_010)).rejects.toMatchObject(told);
    await reading.requireStored(placeOf(whole.entries[1_280]?.id));
    expect(await reading.tile({ level: 'entries', index: 5, width: 256 })).toBeInstanceOf(Buffer);
    expect(await store.log.entries(1_280, 1_300)).toHaveLength(20);
  });

  it('holds up neither writers nor the sequencer, of this process or another', async () => {
    const [busy, rare] = lanes as [TestLane, TestLane];
    await rare.append(3);
    await busy.append(2);
    const made = testSequencer(store);
    await made.drain();
    expect([made.faults, made.sequencer.halted]).toEqual([[], null]);
    const { use, change } = instance.log.health().durable;
    const size = whole.size + 5 + use + change;
    expect((await store.log.head()).size).toBe(size);
    expect(await store.log.entries(whole.size, size)).toHaveLength(size - whole.size);
  });
});

describe('a sink that begins as a command marks', () => {
  it('has its rows still: nothing is removed before it has had them', async () => {
    const more = { ...request, before: new Date(Date.now() + 86_400_000) };
    const { removed } = await owned.log.archived();
    const begin = async (): Promise<void> => {
      // As one whose insertion was under way: a later one does not begin before the mark.
      const sql = `insert into public.audit_sink (name, next) values ('new', 1400)`;
      await withOwner(database, (client) => client.query(sql));
    };
    const parts: ArchiveParts = {
      ...owned,
      record,
      store: {
        ...owned.store,
        mark: async (until, place) => {
          await owned.store.mark(until, place);
          await begin();
        },
      },
    };
    await expect(archive(parts, more)).rejects.toMatchObject({ code: 'conflict' });
    await expect(archive({ ...owned, record }, more)).rejects.toMatchObject({ code: 'conflict' });
    expect(await owned.log.archived()).toMatchObject({ until: 1_536, removed });
    expect(await store.sinks.position('late').advance(null, 1_400)).toBe(false);
    expect(await store.sinks.position('late').advance(null, 1_536)).toBe(true);
    expect(await owned.store.forgetSink('new', 1_400)).toBe(true);
    expect(await archive({ ...owned, record }, more)).toMatchObject({ removed: 1_536 });
  });
});
