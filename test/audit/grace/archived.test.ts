/** A spool that comes back after entries of its lane have gone to cold storage. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { returnSpools } from '../../../src/audit/grace/returning.ts';
import { SpoolFile } from '../../../src/audit/grace/spool-file.ts';
import type { AppendBatch } from '../../../src/audit/ports.ts';
import { openArchiveStore } from '../../../src/store/archive-store.ts';
import type { OwnedArchive } from '../../../src/store/archive-store.ts';
import { openStore } from '../../../src/store/store.ts';
import type { Store } from '../../../src/store/store.ts';
import { startTestDatabase } from '../../store/database.ts';
import type { TestDatabase } from '../../store/database.ts';
import { rowsAsOwner } from '../../store/owner.ts';
import { softwareMac } from '../memory-store.ts';
import { TestLane, testSequencer } from '../sequenced-log.ts';

let database: TestDatabase;
let store: Store;
let owned: OwnedArchive;
let folder: string;
let lane: TestLane;
let other: TestLane;

beforeAll(async () => {
  database = await startTestDatabase();
  store = openStore({ url: database.appUrl });
  owned = openArchiveStore({ url: database.ownerUrl });
  folder = await mkdtemp(join(tmpdir(), 'twofold-spool-'));
  lane = await TestLane.open(store);
  other = await TestLane.open(store);
}, 60_000);
afterAll(async () => {
  await rm(folder, { recursive: true });
  await owned.close();
  await store.close();
  await database.stop();
});

const rowsOfLane = async (): Promise<number[]> => {
  const sql = `select n::integer from public.entry where lane = ${lane.lane} order by n`;
  return (await rowsAsOwner<{ n: number }>(database, sql)).map(({ n }) => n);
};

/** Whole bundles go, up to before this index. */
async function archived(until: number): Promise<void> {
  await other.append(200);
  await other.append(100);
  const sequencer = testSequencer(store);
  await sequencer.drain();
  expect(sequencer.faults).toEqual([]);
  await owned.store.mark(until, 'the shelf');
  await owned.store.remove(until);
}

async function returnedWith(batches: readonly AppendBatch[]) {
  const of = { instance: lane.instance, lane: lane.lane };
  const file = await SpoolFile.create(folder, 'w1-a', of);
  for (const batch of batches) await file.write(batch);
  await file.close();
  const parts = { store: store.grace, entries: store.audit, mac: softwareMac };
  const returned = await returnSpools({ ...parts, folder, prefix: 'w1-' });
  return [returned.map(({ state, entries }) => [state, entries]), await readdir(folder)];
}

it('returns, with what of it was in the database before, and is written once', async () => {
  await lane.append(9);
  // Late, so that it went into the spool, and in the database all the same.
  const late = await lane.sealed(6);
  await store.audit.append(late.batch);
  late.after();
  await archived(256);
  expect(await rowsOfLane()).toEqual([15]);
  const behind = await lane.sealed(5);
  behind.after();
  const batches = [late.batch, behind.batch];
  expect(await returnedWith(batches)).toEqual([[['returned', 11]], []]);
  expect(await rowsOfLane()).toEqual([15, 16, 17, 18, 19, 20]);
  // A kill before the file was removed, and the next start long after.
  await archived(512);
  expect(await rowsOfLane()).toEqual([15, 20]);
  expect(await returnedWith(batches)).toEqual([[['returned', 11]], []]);
  expect(await rowsOfLane()).toEqual([15, 20]);
  const [entry] = late.batch.entries;
  expect(await store.audit.leafAt(lane.lane, 10)).toEqual(Uint8Array.from(entry?.leaf ?? []));
  const sequencer = testSequencer(store);
  await sequencer.drain();
  expect([sequencer.faults, (await store.log.head()).size]).toEqual([[], 620]);
  const replay = { instance: lane.instance, lane: lane.lane, batches };
  expect(await store.grace.replay(replay)).toBe(1);
});

it('is lost where the log has other entries in its places', async () => {
  const batches = [];
  const stranger = await TestLane.open(store);
  for (const count of [6, 9]) {
    const { batch, after } = await stranger.sealed(count);
    batches.push({ ...batch, lane: lane.lane });
    after();
  }
  for (const some of [batches, batches.slice(0, 1)]) {
    const replay = { instance: lane.instance, lane: lane.lane, batches: some };
    await expect(store.grace.replay(replay)).rejects.toMatchObject({ reason: 'conflict' });
  }
  expect(await rowsOfLane()).toEqual([15, 20]);
});
