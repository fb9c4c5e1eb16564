/** Lanes of a backup: what they hold without an index gets one after a restore, and none is at fault for ever. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';

import type { EntriesKept } from '../../src/backup/ports.ts';
import { openLoader } from '../../src/store/backup-load.ts';
import { openSnapshot } from '../../src/store/backup-snapshot.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { TestLane, testSequencer } from '../audit/sequenced-log.ts';
import { startTestDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';
import { rowsAsOwner } from './owner.ts';

let database: TestDatabase;
let store: Store;
const targets: TestDatabase[] = [];
beforeAll(async () => {
  database = await startTestDatabase();
  store = openStore({ url: database.appUrl });
}, 60_000);
afterAll(async () => {
  await store.close();
  await database.stop();
});

afterEach(async () => {
  for (const target of targets.splice(0)) await target.stop();
});

type Edit = (table: string, row: string) => string;

/** The database as it is now, in another one. */
async function restored(entries: EntriesKept, edit: Edit = (_, row) => row): Promise<TestDatabase> {
  const target = await startTestDatabase();
  targets.push(target);
  const loader = openLoader({ url: target.ownerUrl });
  const snapshot = await openSnapshot({ url: database.appUrl }, entries);
  const { takenAt, log, migrations, lastLane } = snapshot.facts;
  await loader.load(
    {
      backup: '01234567-89ab-4def-8123-456789abcdef',
      ...{ takenAt, logSize: log.size, logRoot: log.root, migrations, lastLane, entries },
    },
    async (into) => {
      for (const table of snapshot.tables) {
        await into.table(table);
        for await (const lines of snapshot.rows(table)) {
          for (const line of lines) await into.row(edit(table.name, line));
        }
      }
    },
  );
  await snapshot.close();
  await loader.close();
  return target;
}

const lanesOf = (target: TestDatabase): Promise<unknown[]> =>
  rowsAsOwner(target, 'select id, next::integer, closed, drained from public.lane order by id');

/** What a sequencer of the restored database finds. */
async function sequenced(target: TestDatabase, from = 0) {
  const there = openStore({ url: target.appUrl });
  try {
    const test = testSequencer(there);
    await test.drain();
    const { size } = await there.log.head();
    const ids = (await there.log.entries(from, size)).map(({ lane, n }) => `${lane}-${n}`);
    return { faults: test.faults, size, ids };
  } finally {
    await there.close();
  }
}

describe('a backup with all entries', () => {
  it('leaves lanes as they are, of which none is at fault after a restore, also of versions before', async () => {
    const [open, over] = [await TestLane.open(store), await TestLane.open(store)];
    await open.append(3);
    await testSequencer(store).drain();
    await open.append(1);
    await over.append(2);
    await over.close();
    const expected = [
      { id: open.lane, next: 5, closed: false, drained: false },
      { id: over.lane, next: 4, closed: true, drained: true },
    ];
    const closed: Edit = (table, row) =>
      table === 'lane' ? JSON.stringify({ ...(JSON.parse(row) as object), closed: true }) : row;
    for (const edit of [undefined, closed]) {
      const target = await restored('all', edit);
      expect(await sequenced(target)).toMatchObject({ faults: [], size: 7 });
      expect(await lanesOf(target)).toEqual(expected);
    }
  });
});

describe('a backup with the last entries', () => {
  it('holds what has no index yet, the entry before it, and its lane as it is', async () => {
    const lanes = [await TestLane.open(store), await TestLane.open(store)];
    const [far, fresh] = [lanes[0], lanes[1]];
    if (far === undefined || fresh === undefined) throw new Error('no lanes');
    // Its last entry with an index is before the last full tile.
    await far.append(3);
    await testSequencer(store).drain();
    const other = await TestLane.open(store);
    await other.append(300);
    await testSequencer(store).drain();
    const { size } = await store.log.head();
    const soon = new Date(Date.now() + 3_600_000);
    expect([await store.log.sizeAt(new Date(0)), await store.log.sizeAt(soon)]).toEqual([0, size]);
    await far.append(2);
    await fresh.append(1);
    await fresh.close();
    const target = await restored('tail');
    const rows = await lanesOf(target);
    expect(rows).toContainEqual({ id: far.lane, next: 4, closed: false, drained: false });
    expect(rows).toContainEqual({ id: fresh.lane, next: 1, closed: true, drained: false });
    expect(rows).toContainEqual({ id: other.lane, next: 301, closed: true, drained: true });
    const kept = await rowsAsOwner<{ id: string }>(
      target,
      `select concat(lane, '-', n) as id from public.entry where lane = ${far.lane} order by n`,
    );
    expect(kept.map(({ id }) => id)).toEqual([3, 4, 5].map((n) => `${far.lane}-${n}`));
    const { faults, ids, ...after } = await sequenced(target, size);
    expect(faults).toEqual([]);
    expect(after.size).toBe(size + 4);
    expect(ids.toSorted()).toEqual(
      [`${far.lane}-4`, `${far.lane}-5`, `${fresh.lane}-1`, `${fresh.lane}-2`].toSorted(),
    );
    expect(await lanesOf(target)).toContainEqual({
      ...{ id: fresh.lane, next: 3, closed: true, drained: true },
    });
  });
});
