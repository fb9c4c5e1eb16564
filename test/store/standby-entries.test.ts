/** Entries of the log from a standby: as true as the primary's, whatever the standby is. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import type { SequencedEntry } from '../../src/audit/log-ports.ts';
import { StandbyEntries } from '../../src/audit/standby-entries.ts';
import { TwofoldError } from '../../src/errors.ts';
import { standbyEntries } from '../../src/store/log-store.ts';
import { createPool } from '../../src/store/pool.ts';
import type { GuardedPool } from '../../src/store/pool.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { MemoryLog } from '../audit/memory-log.ts';
import { TestLane, testSequencer } from '../audit/sequenced-log.ts';
import { eventually } from './eventually.ts';
import { withClient } from './owner.ts';
import { hasPostgres15, startPostgres15 } from './postgres-15.ts';
import type { Postgres15 } from './postgres-15.ts';

const nothing = { taken: 0, refused: 0, failed: 0 };

(hasPostgres15 ? describe : describe.skip)('a real standby (PostgreSQL 15)', () => {
  // Each the home of a server with an account of its own, which sees nothing of ours.
  const folders = ['primary', 'standby'].map((name) =>
    mkdtempSync(join(tmpdir(), `twofold-${name}-`)),
  );
  let primary: Postgres15;
  let standby: Postgres15;
  let store: Store;
  let pool: GuardedPool;
  let lane: TestLane;
  let now = 0;
  let copies: StandbyEntries;

  const asked = async <T>(act: () => Promise<T>) => {
    const before = { ...copies.answers };
    const result = await act();
    const { taken, refused, failed } = copies.answers;
    const answers = {
      taken: taken - before.taken,
      refused: refused - before.refused,
      failed: failed - before.failed,
    };
    return { result, answers };
  };
  const asSuper = (server: Postgres15, sql: string) =>
    withClient(server.url('postgres', 'twofold'), (client) => client.query(sql));
  const write = async (count: number) => {
    await lane.append(count);
    await testSequencer(store).drain();
  };
  const textOf = async (server: Postgres15, expression: string) => {
    const { rows } = await asSuper(server, `select (${expression})::text as text`);
    return (rows as { text: string }[])[0]?.text ?? '';
  };
  const caughtUp = async () => {
    const end = await textOf(primary, 'pg_current_wal_lsn()');
    const replayed = `pg_last_wal_replay_lsn() >= '${end}'::pg_lsn`;
    await eventually(async () => (await textOf(standby, replayed)) === 'true');
  };

  beforeAll(async () => {
    const [first = '', second = ''] = folders;
    primary = await startPostgres15(first);
    standby = await primary.standby(second);
    store = openStore({ url: primary.appUrl });
    pool = createPool({
      ...{ url: standby.appUrl, max: 2 },
      ...{ statementDeadlineMs: 15_000, connectDeadlineMs: 15_000 },
    });
    copies = new StandbyEntries({
      ...{ primary: store.log, standby: standbyEntries(pool) },
      now: () => now,
    });
    lane = await TestLane.open(store);
    for (let written = 0; written < 600; written += 100) await write(100);
    await caughtUp();
  });

  afterAll(async () => {
    await pool.end();
    await store.close();
    await standby.stop();
    await primary.stop();
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  it('gives whole tiles, and the primary what follows them', async () => {
    const all = await store.log.entries(0, 600);
    expect(all).toHaveLength(600);
    const ranges: (readonly [number, number, number])[] = [
      [0, 512, 1],
      [0, 600, 1],
      [100, 300, 1],
      [300, 580, 1],
      [64, 128, 1],
      // Nothing worth it, nothing whole, nothing there.
      [500, 530, 0],
      [512, 600, 0],
      [590, 9_000, 0],
      [4_000, 5_000, 0],
    ];
    for (const [from, until, taken] of ranges) {
      const { result, answers } = await asked(() => copies.entries(from, until));
      expect(result).toEqual(all.slice(from, until));
      expect([from, answers]).toEqual([from, { ...nothing, taken }]);
    }
  });

  it('whose rows say something else than their bytes is refused', async () => {
    const expected = await store.log.entries(0, 256);
    const rows: ((entry: SequencedEntry) => Partial<SequencedEntry>)[] = [
      ({ lane: standing }) => ({ lane: standing + 1 }),
      ({ n }) => ({ n: n + 1 }),
      ({ columns }) => ({ columns: { ...columns, outcome: 'denied' } }),
      ({ columns }) => ({ columns: { ...columns, at: new Date(0) } }),
    ];
    for (const change of rows) {
      const wrong = new StandbyEntries({
        primary: store.log,
        standby: async (from, until) => {
          const found = await standbyEntries(pool)(from, until);
          return found.map((entry, at) => (at === 7 ? { ...entry, ...change(entry) } : entry));
        },
      });
      expect(await wrong.entries(0, 256)).toEqual(expected);
      expect(wrong.answers).toEqual({ ...nothing, refused: 1 });
    }
  });

  it('is asked on where neither has what is in cold storage', async () => {
    const archived = new TwofoldError('entry_archived', 'Entries before 256 are elsewhere.');
    const beside = new StandbyEntries({
      primary: {
        tiles: (...asked) => store.log.tiles(...asked),
        entries: async (from, until) => {
          if (from < 256) throw archived;
          return store.log.entries(from, until);
        },
      },
      standby: async (from, until) =>
        (await standbyEntries(pool)(from, until)).filter(({ index }) => index >= 256),
    });
    await expect(beside.entries(0, 256)).rejects.toBe(archived);
    expect(beside.answers).toEqual(nothing);
    expect(await beside.entries(256, 512)).toHaveLength(256);
    expect(beside.answers).toEqual({ ...nothing, taken: 1 });
  });

  it('that lags is passed over for a while, and asked again', async () => {
    await asSuper(standby, 'select pg_wal_replay_pause()');
    const state = 'pg_get_wal_replay_pause_state()';
    await eventually(async () => (await textOf(standby, state)) === 'paused');
    for (let written = 0; written < 300; written += 100) await write(100);
    now += 1_000;
    const behind = await asked(() => copies.entries(512, 768));
    expect(behind.answers).toEqual({ ...nothing, refused: 1 });
    expect(behind.result).toEqual(await store.log.entries(512, 768));
    // What it has is not asked for either.
    expect((await asked(() => copies.entries(0, 256))).answers).toEqual(nothing);
    now += 5_000;
    expect((await asked(() => copies.entries(0, 256))).answers).toEqual({ ...nothing, taken: 1 });
    await asSuper(standby, 'select pg_wal_replay_resume()');
    await caughtUp();
    const there = await asked(() => copies.entries(512, 768));
    expect(there.answers).toEqual({ ...nothing, taken: 1 });
    expect(there.result).toEqual(behind.result);
  });

  it('that hangs holds up one call, and that no longer than its deadline', async () => {
    process.kill(standby.pid(), 'SIGSTOP');
    // Its backends are processes of their own; a connection that is not made is one of the postmaster's.
    const hung = createPool({ url: standby.appUrl, connectDeadlineMs: 500 });
    const slow = new StandbyEntries({
      ...{ primary: store.log, standby: standbyEntries(hung) },
      now: () => now,
    });
    try {
      const expected = await store.log.entries(0, 256);
      expect(await slow.entries(0, 256)).toEqual(expected);
      expect(slow.answers).toEqual({ ...nothing, failed: 1 });
      expect(await slow.entries(0, 256)).toEqual(expected);
      expect(slow.answers).toEqual({ ...nothing, failed: 1 });
    } finally {
      process.kill(standby.pid(), 'SIGCONT');
      await hung.end();
    }
  });

  it('of another history gives nothing, though its entries are as long and as sound', async () => {
    now += 5_000;
    const end = (await store.log.head()).size;
    await asSuper(standby, 'select pg_promote()');
    const other = openStore({ url: standby.appUrl });
    try {
      const theirs = await TestLane.open(other);
      const fill = async (to: Store, by: TestLane) => {
        await by.append(600);
        await testSequencer(to).drain();
      };
      await fill(other, theirs);
      await fill(store, lane);
      now += 1_000;
    } finally {
      await other.close();
    }
    // What both had is the same; what each wrote alone is not.
    expect((await asked(() => copies.entries(0, 256))).answers).toEqual({ ...nothing, taken: 1 });
    const first = Math.ceil(end / 256) * 256;
    const forked = await asked(() => copies.entries(first, first + 256));
    expect(forked.answers).toEqual({ ...nothing, refused: 1 });
    expect(forked.result).toEqual(await store.log.entries(first, first + 256));
    expect(await standbyEntries(pool)(first, first + 256)).toHaveLength(256);
  });

  it('that is down is told with its error', async () => {
    now += 5_000;
    await standby.stop();
    // Also those of the pool have noticed.
    await eventually(async () => pool.totalCount === 0);
    const told: unknown[] = [];
    const down = new StandbyEntries({
      ...{ primary: store.log, standby: standbyEntries(pool) },
      onAnswer: (answer, error) => told.push(answer, error),
    });
    expect(await down.entries(0, 512)).toEqual(await store.log.entries(0, 512));
    expect(told).toEqual(['failed', expect.objectContaining({ code: 'ECONNREFUSED' })]);
  });
});

it('whatever a standby answers, readers get what the primary has', async () => {
  const SIZE = 700;
  const log = new MemoryLog();
  log.grow(SIZE);
  const other = new MemoryLog();
  other.grow(SIZE, 'of another history');
  const entries = await log.entries(0, SIZE);
  const theirs = await other.entries(0, SIZE);
  const at = (all: readonly SequencedEntry[], index: number): SequencedEntry => {
    const found = all[index];
    if (found === undefined) throw new RangeError(String(index));
    return found;
  };
  type Wrong = (entry: SequencedEntry) => SequencedEntry[];
  const wrong: Readonly<Record<string, Wrong>> = {
    missing: () => [],
    doubled: (entry) => [entry, entry],
    elsewhere: (entry) => [{ ...entry, index: entry.index + 1 }],
    altered: (entry) => [{ ...entry, body: Uint8Array.of(1, 2, 3) }],
    renamed: (entry) => [{ ...entry, leaf: new Uint8Array(32) }],
    foreign: ({ index }) => [at(theirs, index)],
    replaced: ({ index }) => [{ ...at(entries, (index + 1) % SIZE), index }],
  };
  const ranges = fc.tuple(fc.nat(SIZE), fc.nat(SIZE + 50)).filter(([from, until]) => from < until);
  const kinds = fc.constantFrom(...Object.values(wrong));
  await fc.assert(
    fc.asyncProperty(ranges, kinds, fc.nat(), async ([from, until], how, place) => {
      const standby = async (first: number, last: number) =>
        entries
          .slice(first, last)
          .flatMap((entry, here, { length }) => (here === place % length ? how(entry) : [entry]));
      const copies = new StandbyEntries({ primary: log, standby });
      expect(await copies.entries(from, until)).toEqual(entries.slice(from, until));
      expect(copies.answers.taken).toBe(0);
    }),
  );
});
