/** The sequencer over a real database: what it takes, in which order, and what it refuses to go on with. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { CheckpointSigner } from '../../src/audit/log-ports.ts';
import { LogReading } from '../../src/audit/log-reading.ts';
import type { LaneView, SequencerStore } from '../../src/audit/sequencer-ports.ts';
import { Edge } from '../../src/audit/tree/edge.ts';
import { TwofoldError } from '../../src/errors.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { rowsAsOwner, withOwner } from '../store/owner.ts';
import {
  editedAsOwner,
  softwareSigner,
  TestLane,
  testSequencer,
  wholeLog,
} from './sequenced-log.ts';

let database: TestDatabase;
let store: Store;

beforeAll(async () => {
  database = await startTestDatabase();
  store = openStore({ url: database.appUrl });
}, 60_000);
afterAll(async () => {
  await store.close();
  await database.stop();
});

const edited = (sql: string, values: readonly unknown[] = []): Promise<unknown[]> =>
  editedAsOwner(database, sql, values);

beforeEach(async () => {
  await edited(`truncate public.log_run, public.log_tile, public.log_checkpoint, public.entry,
    public.lane, public.leadership`);
  await edited(`update public.log_head set size = 0, root = sha256(''), note = null`);
});

/** What was altered is no proof, and is one again once it is as it was, whatever memory has of it. */
async function provesThroughTamperedTiles(lane: number): Promise<void> {
  const another = openStore({ url: database.appUrl });
  try {
    const reading = new LogReading(another.log);
    const flip = () =>
      edited(`update public.log_tile set hashes = set_byte(hashes, 33, get_byte(hashes, 33) # 1)
        where index = 0 and level < 2`);
    const prove = async (n: number) => {
      const stored = await another.audit.entry(lane, n);
      if (stored === null) throw new Error('no entry');
      return (await reading.proof(stored)).startsWith('c2sp.org/tlog-proof@v1');
    };
    expect(await prove(70_000)).toBe(true);
    await flip();
    await expect(prove(1)).rejects.toMatchObject({ code: 'integrity_failed' });
    await flip();
    for (const n of [1, 2, 70_000, 300 * 256 + 77]) expect(await prove(n)).toBe(true);
  } finally {
    await another.close();
  }
}

describe('the sequencer', () => {
  it('gives every entry of all lanes one index, and the tree their root', async () => {
    const lanes = await Promise.all([1, 2, 3].map(() => TestLane.open(store)));
    const made = testSequencer(store);
    for (let round = 0; round < 4; round += 1) {
      for (const [at, lane] of lanes.entries()) await lane.append(1 + 90 * at);
      await made.drain();
    }
    const log = await wholeLog(database);
    expect(new Set(log.entries.map(({ id }) => id))).toEqual(
      new Set(lanes.flatMap(({ acknowledged }) => acknowledged)),
    );
    expect(log.checkpoints).toHaveLength(4);
    expect(made.published.map(({ size }) => size)).toEqual([
      0,
      ...log.checkpoints.map(({ size }) => size),
    ]);
    expect(made.faults).toEqual([]);
    expect(made.sequencer.unsequenced).toBe(0);
  });

  it('is read back by another one, and by readers, tile by tile', async () => {
    const lane = await TestLane.open(store);
    for (let batch = 0; batch < 300; batch += 1) await lane.append(256);
    await testSequencer(store).drain();
    await lane.append(77);
    await testSequencer(store).drain();
    const log = await wholeLog(database);
    const head = await store.log.head();
    expect(head.size).toBe(300 * 256 + 77);
    const edge = await Edge.load(head.size, (...at) => store.log.tile(...at));
    expect(Buffer.from(edge.root())).toEqual(log.root);
    const [last] = await store.log.entries(head.size - 1, head.size + 10);
    expect(`${last?.lane}-${last?.n}`).toBe(log.entries.at(-1)?.id);
    expect(await store.log.indexOf(lane.lane, 70_000)).toBe(69_999);
    expect(await store.log.indexOf(lane.lane, 300 * 256 + 78)).toBeNull();
    const some = await store.log.entries(40_000, 40_300);
    expect(some.map(({ index }) => index)).toEqual(
      Array.from({ length: 300 }, (_, at) => 40_000 + at),
    );
    expect(await store.log.tile(0, 300, 77)).toHaveLength(77 * 32);
    expect(await store.log.tile(0, 300, 78)).toBeNull();
    expect(await store.log.tile(1, 1, 44)).toHaveLength(44 * 32);
    expect(await store.log.tile(1, 1, 45)).toBeNull();
    for (const [level, index, width] of [
      [0, 300, 77],
      [0, 300, 78],
      [0, 299, 256],
      [1, 1, 44],
      [1, 1, 45],
    ] as const) {
      const tile = await store.log.tile(level, index, width);
      expect(await store.log.tile(level, index, width, true)).toEqual(tile);
    }
    await provesThroughTamperedTiles(lane.lane);
    const notes = await store.log.checkpoints(1, 10);
    expect(notes.map(({ size }) => size)).toEqual(log.checkpoints.map(({ size }) => size));
  });

  it('takes from a lane that pours no more than from the others', async () => {
    const [poured, trickled] = [await TestLane.open(store), await TestLane.open(store)];
    for (let batch = 0; batch < 24; batch += 1) await poured.append(256);
    await trickled.append(30);
    const made = testSequencer(store, { most: 1_024 });
    await made.leader.tick();
    await made.sequencer.step();
    const log = await wholeLog(database);
    expect(log.entries.filter(({ id }) => id.startsWith(`${trickled.lane}-`))).toHaveLength(30);
    expect(log.size).toBeLessThanOrEqual(1_024);
    await made.drain();
    expect((await wholeLog(database)).size).toBe(24 * 256 + 30);
  });

  it('looks no more at a closed lane that it has taken', async () => {
    const lane = await TestLane.open(store);
    await lane.append(3);
    await lane.close();
    const made = testSequencer(store);
    await made.drain();
    await made.sequencer.step();
    const [row] = await rowsAsOwner(database, 'select drained from public.lane');
    expect(row).toEqual({ drained: true });
    expect(await store.sequencer.lanes(false)).toEqual([]);
  });
});

/** An entry of each lane is altered before it gets an index; its neighbour goes on. */
const ALTERED: readonly (readonly [string, string, number])[] = [
  ['missing', 'delete from public.entry where lane = $1 and n = 5', 5],
  ['leaf', `update public.entry set body = body || '\\x00' where lane = $1 and n = 5`, 5],
  [
    'place',
    `update public.entry set (leaf, body) = (select leaf, body from public.entry where lane = $1 and n = 6)
      where lane = $1 and n = 5`,
    5,
  ],
  [
    'chain',
    `update public.entry set body = overlay(body placing '\\x00' from 10 for 1),
      leaf = sha256('\\x00'::bytea || overlay(body placing '\\x00' from 10 for 1))
      where lane = $1 and n = 5`,
    5,
  ],
  ['batch-hmac', `update public.entry set batch_hmac = sha256('a') where lane = $1 and n = 4`, 4],
  ['batch-hmac', 'update public.entry set batch_hmac = null where lane = $1 and n = 1', 1],
  ['batch-hmac', 'update public.entry set batch_hmac = null where lane = $1 and n = 4', 1],
];

/** Whether the sequencer is in the process that wrote the lane. */
const ALTERED_BY_WHOM = [true, false].flatMap((own) =>
  ALTERED.map((row) => [own, ...row] as const),
);

describe('a lane that this process writes', () => {
  it('is not read back, where the database holds what was written', async () => {
    const [mine, other] = [await TestLane.open(store), await TestLane.open(store)];
    const read: number[] = [];
    const port: SequencerStore = {
      ...store.sequencer,
      intake: async (ranges, certain) => {
        read.push(...ranges.map(({ lane }) => lane));
        return store.sequencer.intake(ranges, certain);
      },
    };
    const made = testSequencer(store, { own: mine.own, port });
    for (const count of [1, 300, 7]) {
      await mine.append(count);
      await other.append(2);
      await made.drain();
    }
    expect((await wholeLog(database)).size).toBe(314);
    expect(new Set(read)).toEqual(new Set([other.lane]));
  });

  it('is read where another sequencer, which is in no process that writes, goes on', async () => {
    const lane = await TestLane.open(store);
    await lane.append(3);
    await testSequencer(store, { own: lane.own, most: 2 }).drain();
    await lane.append(40);
    await testSequencer(store).drain();
    await lane.append(2);
    await testSequencer(store, { own: lane.own }).drain();
    expect((await wholeLog(database)).size).toBe(45);
  });
});

describe('a lane that was altered', () => {
  it.each(ALTERED_BY_WHOM)('is at fault (own: %s, %s: %s)', async (own, reason, sql, n) => {
    const [altered, other] = [await TestLane.open(store), await TestLane.open(store)];
    await altered.append(3);
    await altered.append(6);
    await other.append(4);
    await edited(sql, [altered.lane]);
    const made = testSequencer(store, own ? { own: altered.own } : {});
    await made.drain();
    expect(made.faults).toEqual([{ lane: altered.lane, n, reason }]);
    expect(made.sequencer.faults).toEqual(made.faults);
    await other.append(2);
    await made.drain();
    const { entries } = await wholeLog(database);
    expect(entries.filter(({ id }) => id.startsWith(`${other.lane}-`))).toHaveLength(6);
    expect(entries.some(({ id }) => id === `${altered.lane}-${n}`)).toBe(false);
  });

  it('is taken again once it was mended', async () => {
    const lane = await TestLane.open(store);
    await lane.append(5);
    await edited(`create table if not exists public.kept as table public.entry`);
    await edited('delete from public.entry where n = 3');
    let now = 0;
    const made = testSequencer(store, { monotonic: () => now });
    await made.drain();
    expect(made.faults).toEqual([{ lane: lane.lane, n: 3, reason: 'missing' }]);
    await edited('insert into public.entry select * from public.kept where n = 3');
    await edited('drop table public.kept');
    await made.drain();
    expect((await wholeLog(database)).size).toBe(0);
    now = 31_000;
    await made.drain();
    expect((await wholeLog(database)).size).toBe(5);
    expect(made.mended).toEqual([lane.lane]);
    expect(made.sequencer.faults).toEqual([]);
  });

  it('is at fault after its entries were given indexes, too', async () => {
    const [gone, moved] = [await TestLane.open(store), await TestLane.open(store)];
    await gone.append(5);
    await moved.append(256);
    await testSequencer(store).drain();
    await edited('delete from public.entry where lane = $1 and n = 5', [gone.lane]);
    await moved.append(5);
    await edited('update public.lane set next = next + 2 where id = $1', [moved.lane]);
    const made = testSequencer(store);
    await made.drain();
    expect(made.faults).toEqual([
      { lane: gone.lane, n: 5, reason: 'vanished' },
      { lane: moved.lane, n: 257, reason: 'cursor' },
    ]);
  });

  it('is at fault where it is marked as drained and goes on taking entries', async () => {
    const [lane, other] = [await TestLane.open(store), await TestLane.open(store)];
    await lane.append(5);
    // It has begun, and sees what happens afterwards.
    const made = testSequencer(store);
    await made.drain();
    await edited('update public.lane set drained = true where id = $1', [lane.lane]);
    await lane.append(3);
    await other.append(2);
    await made.drain();
    expect(made.faults).toEqual([{ lane: lane.lane, n: 6, reason: 'drained' }]);
    expect((await wholeLog(database)).size).toBe(7);
  });

  it('is at fault where it was closed and marked as drained before all of it was in the log', async () => {
    const [lane, other] = [await TestLane.open(store), await TestLane.open(store)];
    await lane.append(5);
    await other.append(2);
    await other.close();
    await testSequencer(store).drain();
    await lane.append(3);
    await edited('update public.lane set closed = true, drained = true where id = $1', [lane.lane]);
    const made = testSequencer(store);
    await made.drain();
    expect(made.faults).toEqual([{ lane: lane.lane, n: 6, reason: 'drained' }]);
  });

  it('is missed by what its instance announces, and by its last entry', async () => {
    const [cut, closed, odd] = [
      await TestLane.open(store),
      await TestLane.open(store),
      await TestLane.open(store),
    ];
    for (const lane of [cut, closed, odd]) await lane.append(5);
    const announced = (use: TestLane, useCount: number): Promise<unknown> =>
      store.instances.beat(use.instance, 1, {
        ...{ useLane: use.lane, useCount, changeLane: null, changeCount: null },
      });
    await announced(cut, 5);
    await closed.close();
    await edited('delete from public.entry where lane = $1 and n = 5', [cut.lane]);
    await edited('delete from public.entry where lane = $1 and n = 6', [closed.lane]);
    await announced(odd, -1);
    const made = testSequencer(store);
    await made.drain();
    await made.sequencer.step();
    expect(made.faults.toSorted((a, b) => a.lane - b.lane)).toEqual([
      { lane: cut.lane, n: 5, reason: 'missing' },
      { lane: closed.lane, n: 5, reason: 'unfinished' },
      { lane: odd.lane, n: 1, reason: 'announcement' },
    ]);
  });
});

/** What an attacker does to the log itself; the sequencer signs nothing on top of it. */
const FORKED: readonly (readonly [string, string])[] = [
  ['a head with another root', `update public.log_head set root = sha256('a')`],
  ['a smaller head', 'update public.log_head set size = size - 1'],
  ['another note', `update public.log_head set note = replace(note, 'log.example', 'log.other')`],
  ['a checkpoint taken away', 'delete from public.log_checkpoint where size > 300'],
  [
    'a tile altered',
    `update public.log_tile set hashes = sha256('a') || substring(hashes from 33) where level = 1`,
  ],
  ['a tile taken away', 'delete from public.log_tile where level = 1'],
  [
    'a leaf behind the last tile altered',
    `update public.entry set leaf = sha256('a') where n = 400`,
  ],
  ['a run taken away', 'delete from public.log_run where first > 0'],
];

describe('a log that was altered', () => {
  it.each(FORKED)('halts the sequencer: %s', async (_, sql) => {
    const lane = await TestLane.open(store);
    await lane.append(256);
    await testSequencer(store).drain();
    await lane.append(250);
    await testSequencer(store).drain();
    await edited(sql);
    await lane.append(10);
    const made = testSequencer(store);
    await made.drain();
    expect(made.sequencer.halted).not.toBeNull();
    expect(made.published).toEqual([]);
    const [{ size } = { size: '' }] = await rowsAsOwner<{ size: string }>(
      database,
      'select max(size) as size from public.log_checkpoint',
    );
    expect(Number(size)).toBeLessThanOrEqual(506);
  });

  it('halts the one that runs, when it is rolled back beneath it', async () => {
    const lane = await TestLane.open(store);
    await lane.append(10);
    const made = testSequencer(store);
    await made.drain();
    const rows = await rowsAsOwner<{ note: string }>(database, 'select note from public.log_head');
    const [before] = rows;
    const { root } = await store.log.head();
    await lane.append(10);
    await made.drain();
    await edited('delete from public.log_run where first = 10');
    await edited('delete from public.log_checkpoint where size = 20');
    await edited('update public.log_head set size = 10, note = $1, root = $2', [
      before?.note,
      Buffer.from(root),
    ]);
    await edited('update public.lane set next = 11');
    await lane.append(1);
    // It stages on top of what it knows: the head is another, and then it reads it.
    await made.sequencer.step().catch(() => undefined);
    await made.sequencer.step();
    expect(made.sequencer.halted).toContain('not a continuation');
  });
});

describe('an HSM that is away', () => {
  it('holds up the log and no writer, and the log resumes', async () => {
    const lane = await TestLane.open(store);
    let away = true;
    const signer: CheckpointSigner = {
      sign: (size, root) =>
        away
          ? Promise.reject(new TwofoldError('hsm_unavailable'))
          : softwareSigner.sign(size, root),
    };
    const made = testSequencer(store, { signer });
    for (let round = 0; round < 3; round += 1) {
      await lane.append(90);
      await expect(made.drain()).rejects.toMatchObject({ code: 'hsm_unavailable' });
    }
    expect((await store.log.head()).size + lane.acknowledged.length).toBe(270);
    away = false;
    await made.drain();
    expect((await wholeLog(database)).size).toBe(270);
    expect(made.faults).toEqual([]);
  });
});

describe('nothing of the database delays or misleads it', () => {
  it.each([4, 7])(
    'takes no entries of an old primary whose place has others: %d',
    async (count) => {
      const [lane, other] = [await TestLane.open(store), await TestLane.open(store)];
      await lane.append(2);
      // What was sent last before the fail-over stands on the old primary alone: 4 entries, their outcome unknown.
      const { batch } = await lane.sealed(4, new Date(Date.now() - 1_000));
      const { lane: at, first, hmac } = batch;
      const lost = batch.entries.map(({ leaf, body }, place) => ({
        ...{ lane: at, n: first + place, leaf, body },
        batchHmac: place === 0 ? hmac : null,
      }));
      await lane.append(count);
      await other.append(1);
      let old = true;
      const port: SequencerStore = {
        ...store.sequencer,
        lanes: async (certain) => {
          const views = await store.sequencer.lanes(certain);
          const seen = (view: LaneView) => (view.lane === at ? { ...view, last: 6 } : view);
          return old && !certain ? views.map(seen) : views;
        },
        intake: async (ranges, certain) => {
          const entries = await store.sequencer.intake(ranges, certain);
          if (!old || certain) return entries;
          return [...entries.filter((entry) => entry.lane !== at || entry.n < first), ...lost];
        },
      };
      const made = testSequencer(store, { port });
      await expect(made.drain()).rejects.toMatchObject({ code: 'conflict' });
      expect((await store.log.head()).size).toBe(0);
      old = false;
      await made.drain();
      expect((await wholeLog(database)).size).toBe(3 + count);
      expect(made.faults).toEqual([]);
    },
  );

  it('takes entries while a transaction that writes stays open', async () => {
    await withOwner(database, async (client) => {
      await client.query('begin');
      await client.query('insert into public.usage_counter values ($1, 1)', ['open']);
      await client.query('select pg_current_xact_id()');
      const lane = await TestLane.open(store);
      await lane.append(3);
      await testSequencer(store).drain();
      expect((await wholeLog(database)).size).toBe(3);
      await client.query('rollback');
    });
  });

  it('does not pass over a batch that commits after one that was begun later', async () => {
    const [early, late] = [await TestLane.open(store), await TestLane.open(store)];
    await withOwner(database, async (client) => {
      const { batch, after } = await early.sealed(4);
      await client.query('begin');
      await client.query(
        `insert into public.entry (lane, n, leaf, body, batch_hmac, at, namespace, operation, subject, outcome)
          select $1, o, l, b, case when o = 1 then $4::bytea end, now(), 'default', 'test', 'system', 'ok'
          from unnest($2::bytea[], $3::bytea[]) with ordinality u(l, b, o)`,
        [
          early.lane,
          batch.entries.map(({ leaf }) => Buffer.from(leaf)),
          batch.entries.map(({ body }) => Buffer.from(body)),
          Buffer.from(batch.hmac),
        ],
      );
      await late.append(4);
      const made = testSequencer(store);
      await made.drain();
      expect((await wholeLog(database)).size).toBe(4);
      await client.query('commit');
      after();
      await made.drain();
      const { entries } = await wholeLog(database);
      expect(entries.map(({ id }) => id)).toEqual([...late.acknowledged, ...early.acknowledged]);
    });
  });

  it('takes a batch once that its writer gave up on, and sent again', async () => {
    const lane = await TestLane.open(store);
    const { batch, after } = await lane.sealed(5);
    const made = testSequencer(store);
    await store.audit.append(batch);
    await made.drain();
    expect(await store.audit.append(batch)).toHaveProperty('epoch');
    after();
    await lane.append(1);
    await made.drain();
    expect((await wholeLog(database)).entries.map(({ id }) => id)).toEqual(lane.acknowledged);
  });

  it('keeps the order of a lane when the clock of its instance goes back', async () => {
    const lane = await TestLane.open(store);
    await lane.append(2, new Date('2026-11-29T10:00:00Z'));
    await lane.append(2, new Date('2026-11-28T10:00:00Z'));
    await testSequencer(store).drain();
    expect((await wholeLog(database)).entries.map(({ id }) => id)).toEqual(lane.acknowledged);
  });

  it('commits nothing of a sequencer that was deposed between reading and writing', async () => {
    const lane = await TestLane.open(store);
    await lane.append(5);
    const rival = testSequencer(store);
    let paused = false;
    const slow = testSequencer(store, {
      port: {
        ...store.sequencer,
        sequence: async (stage) => {
          if (!paused) {
            paused = true;
            await rival.drain();
          }
          return store.sequencer.sequence(stage);
        },
      },
    });
    await slow.leader.tick();
    expect(await slow.sequencer.step()).toEqual({ kind: 'following' });
    expect(slow.published.map(({ size }) => size)).toEqual([0]);
    expect((await wholeLog(database)).checkpoints.map(({ size }) => size)).toEqual([5]);
    await lane.append(5);
    await slow.drain();
    expect((await wholeLog(database)).checkpoints.map(({ size }) => size)).toEqual([5, 10]);
  });
});
