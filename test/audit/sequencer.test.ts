/** The sequencer over a real database: what it takes, in which order, and what it refuses to go on with. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Edge } from '../../src/audit/tree/edge.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { rowsAsOwner } from '../store/owner.ts';
import { editedAsOwner, TestLane, testSequencer, wholeLog } from './sequenced-log.ts';

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
