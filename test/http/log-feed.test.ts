/** Where the stream of entries begins, whatever the order in which the log took them. */
import { expect, it } from '@jest/globals';

import type { Grant } from '../../src/access/grant.ts';
import { ownUnplaced, seal, startOf } from '../../src/audit/batch.ts';
import type { LogReader, SequencedEntry } from '../../src/audit/log-ports.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { EntryFeed } from '../../src/http/log-feed.ts';
import { INSTANCE } from '../audit/drafts.ts';
import { softwareMac } from '../audit/memory-store.ts';
import { EMPTY_LOG } from './log-in-memory.ts';

const NOON = Date.parse('2026-11-29T12:00:00Z');
const DAY = 86_400_000;
const ANY = { operation: null, keyRef: null, keyId: null, subject: null, outcome: null };

/** Of a lane of its own. */
async function entryOf(index: number, at: Date): Promise<SequencedEntry> {
  const origin = { at, zone: 'zone-a', instance: INSTANCE };
  const lane = index + 1;
  const { batch } = await seal(softwareMac, startOf(lane), 1, [ownUnplaced('test', {}, origin)]);
  const [entry] = batch.entries;
  if (entry === undefined) throw new Error('nothing was sealed');
  return { index, lane, n: 1, leaf: entry.leaf, body: entry.body, columns: entry.index };
}

/** 10,000 entries from noon on, 20,000 of the day before, 1,000 later ones; checkpoints of 4,000 and of all. */
const timeOf = (index: number): Date =>
  new Date(NOON + index * 10 - (index >= 10_000 && index < 30_000 ? DAY : 0));
const CHECKPOINTS = [4_000, 31_000].map((size) => ({ size, at: new Date(NOON + size * 10) }));

const log = (removed = 0): LogReader => ({
  ...EMPTY_LOG,
  head: async () => ({ ...(await EMPTY_LOG.head()), size: 31_000 }),
  archived: async () => ({ until: removed, removed, place: 'the shelf' }),
  entries: (from, until) =>
    Promise.all(
      Array.from({ length: until - from }, (_, at) => entryOf(from + at, timeOf(from + at))),
    ),
  sizeAt: async (time) => CHECKPOINTS.findLast(({ at }) => at < time)?.size ?? 0,
});

const grant: unknown = { namespace: 'default' };

/** The first that comes of that time, and from where it was looked for. */
async function beginning(since: number, reader = log()) {
  const feed = new EntryFeed(
    { log: reader, epoch: new SecurityEpoch(1_000) },
    grant as Grant<'audit.read'>,
    { from: null, since: new Date(since), follow: false },
    ANY,
  );
  await feed.check();
  const { items, place } = await feed.next();
  return { first: items[0]?.id, from: Number(place) - 511 };
}

it('is before all entries of a time, though older ones have come in great number behind them', async () => {
  expect(await beginning(NOON)).toEqual({ first: '0', from: 0 });
  expect(await beginning(NOON + 150)).toEqual({ first: '15', from: 0 });
});

it('is behind what was in the log a minute before', async () => {
  expect((await beginning(NOON + 99_000)).from).toBe(0);
  expect((await beginning(NOON + 101_000)).from).toBe(4_000);
});

it('is behind cold storage where all that is there was in the log by then', async () => {
  expect((await beginning(NOON + 41_000, log(3_840))).from).toBe(3_840);
  expect((await beginning(NOON + 39_000, log(3_840))).from).toBe(0);
});

it('asks for many at a time while it looks for the first, and not each time how many there are', async () => {
  const asked: string[] = [];
  const counted = (): LogReader => ({
    ...log(),
    head: () => {
      asked.push('head');
      return log().head();
    },
    entries: (from, until) => {
      asked.push('entries');
      return log().entries(from, until);
    },
    sizeAt: () => Promise.resolve(0),
  });
  const place = { from: null, since: new Date(NOON + 40_000), follow: false };
  const feed = new EntryFeed(
    { log: counted(), epoch: new SecurityEpoch(1_000) },
    grant as Grant<'audit.read'>,
    place,
    ANY,
  );
  await feed.check();
  for (let page = await feed.next(); page.items.length === 0; page = await feed.next());
  expect(asked.filter((each) => each === 'entries').length).toBeLessThan(10);
  expect(asked.filter((each) => each === 'head')).toHaveLength(1);
});
