/** Sums of uses in the database: exact over instances, repeats and lost answers; each query by an index. */
import { randomUUID } from 'node:crypto';
import { expect, it } from '@jest/globals';
import type { UseBatch, UseSum } from '../../src/keyring/ports.ts';
import { UseLedger } from '../../src/keyring/use-ledger.ts';
import { useReport } from '../../src/keyring/use-report.ts';
import { OutcomeUnknown } from '../../src/outcome.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import type { TestDatabase } from './database.ts';
import { eventually } from './eventually.ts';
import { onEachMajor, onEmbedded } from './majors.ts';
import { withOwner } from './owner.ts';
import { startRelay } from './relay.ts';
import { openInstance, rejection } from './samples.ts';

const DAY = 86_400_000;
const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second));
const sum = (keyId: string, over: Partial<UseSum> = {}): UseSum => ({
  keyId,
  version: 1,
  usage: 'protect',
  issuer: 'urn:i',
  subject: 'a',
  uses: 1,
  firstAt: at(1),
  lastAt: at(1),
  ...over,
});
const batchOf = (number: number, sums: readonly UseSum[], instance: string): UseBatch => ({
  instance,
  number,
  sums,
});
/** Lets these instances be old enough, and expects so many of all to go. */
const removeOld = async (
  database: TestDatabase,
  instances: readonly string[],
  store: Store,
  expected = instances.length,
) => {
  const longAgo = "update public.instance set beat_at = now() - interval '40 days'";
  await withOwner(database, (owner) => owner.query(`${longAgo} where id = any ($1)`, [instances]));
  expect(await store.instances.expire(new Date(Date.now() - 30 * DAY), 100)).toBe(expected);
};
const ALL = { from: 1, until: 2 ** 31 - 1 };
const totalOf = async (store: Store, keyId: string) =>
  (await store.uses.usesOf(keyId, ALL)).totals.reduce((all, { uses }) => all + uses, 0);

onEachMajor('sums of uses', (test) => {
  it('add up, from the first time to the last, and a flush sent twice counts once', async () => {
    const [store, keyId] = [test.store(), randomUUID()];
    const { uses } = store;
    const first = batchOf(
      1,
      [
        sum(keyId, { uses: 2, firstAt: at(5), lastAt: at(9) }),
        sum(keyId, { usage: 'process', version: 3 }),
      ],
      await openInstance(store),
    );
    await uses.addUses(first);
    await uses.addUses(first);
    await uses.addUses(batchOf(2, [sum(keyId, { uses: 3, lastAt: at(7) })], first.instance));
    await uses.addUses(first);
    const other = await openInstance(store);
    await uses.addUses(
      batchOf(1, [sum(keyId, { uses: 10, firstAt: at(8), lastAt: at(20) })], other),
    );
    const { countedSince, totals } = await uses.usesOf(keyId, ALL);
    expect(countedSince.getTime()).toBeLessThanOrEqual(Date.now());
    expect(totals).toEqual([
      { version: 1, usage: 'protect', uses: 15, firstAt: at(1), lastAt: at(20) },
      { version: 3, usage: 'process', uses: 1, firstAt: at(1), lastAt: at(1) },
    ]);
    expect((await uses.usesOf(keyId, { from: 2, until: 3 })).totals).toMatchObject([
      { version: 3 },
    ]);
    expect((await uses.usesOf(randomUUID(), ALL)).totals).toEqual([]);
    await uses.addUses(batchOf(2, [sum(keyId, { version: 2, uses: 4, lastAt: at(30) })], other));
    const who = { keyId, issuer: 'urn:i', subject: 'a' };
    expect(await uses.usersOfAll(keyId, [1, 2, 3], 2)).toEqual([
      { ...who, usage: 'protect', uses: 19, firstAt: at(1), lastAt: at(30) },
      { ...who, usage: 'process', uses: 1, firstAt: at(1), lastAt: at(1) },
    ]);
    expect(await uses.usersOfAll(keyId, [2], 1)).toMatchObject([{ usage: 'protect', uses: 4 }]);
  });

  it('are taken from no instance whose row and marks are gone, so that a late repeat adds nothing', async () => {
    const [store, keyId] = [test.store(), randomUUID()];
    const instance = await openInstance(store);
    const late = batchOf(1, [sum(keyId, { uses: 5 })], instance);
    await store.uses.addUses(late);
    await removeOld(test.database(), [instance], store);
    expect(await rejection(store.uses.addUses(late))).toMatchObject({
      code: 'database_unavailable',
    });
    expect(await totalOf(store, keyId)).toBe(5);
  });

  it('that are under way keep the row of their instance until they are there', async () => {
    const [store, keyId] = [test.store(), randomUUID()];
    const instance = await openInstance(store);
    await withOwner(test.database(), async (writing) => {
      await writing.query('begin');
      await writing.query('select public.require_kept_instance($1)', [instance]);
      await removeOld(test.database(), [instance], store, 0);
      await writing.query('rollback');
    });
    await store.uses.addUses(batchOf(1, [sum(keyId)], instance));
    expect(await totalOf(store, keyId)).toBe(1);
  });

  it('take names that PostgreSQL cannot store, also where they become the same', async () => {
    const [{ uses }, keyId] = [test.store(), randomUUID()];
    const odd = ['a\0', 'a\ufffd', 'a\ud800', '"{},\\\'', '😀'.repeat(127)];
    await uses.addUses(
      batchOf(
        1,
        odd.map((subject) => sum(keyId, { subject })),
        await openInstance(test.store()),
      ),
    );
    const rows = await uses.usersOf(keyId, 1, { limit: 10, after: null });
    expect(rows.map(({ subject, uses: count }) => [subject, count]).toSorted()).toEqual(
      [
        ['a\ufffd', 3],
        ['"{},\\\'', 1],
        ['😀'.repeat(127), 1],
      ].toSorted(),
    );
  });

  it('of instances that flush the same rows at once are all there', async () => {
    const [store, keyId] = [test.store(), randomUUID()];
    const subjects = Array.from({ length: 40 }, (_, index) => `s${index}`);
    const instances = await Promise.all([1, 2, 3].map(() => openInstance(store)));
    const ledgers = instances.map(
      (instance) => new UseLedger(store.uses, { instance, intervalMs: null }),
    );
    for (let round = 0; round < 5; round += 1) {
      await Promise.all(
        ledgers.map((ledger, index) => {
          const order = index % 2 === 0 ? subjects : subjects.toReversed();
          for (const subject of order) {
            ledger.count({ keyId, version: 1 }, { issuer: 'urn:i', subject }, 'process');
          }
          return ledger.flush();
        }),
      );
    }
    expect(await totalOf(store, keyId)).toBe(3 * 5 * 40);
  });

  it('are paged by the last use, none twice and none left out', async () => {
    const [store, keyId] = [test.store(), randomUUID()];
    const sums = Array.from({ length: 23 }, (_, index) =>
      sum(keyId, { subject: `s${index}`, lastAt: at(1 + (index % 4)) }),
    );
    const instance = await openInstance(store);
    await store.uses.addUses(batchOf(1, [...sums, sum(keyId, { version: 2 })], instance));
    const ledger = new UseLedger(store.uses, { instance: randomUUID(), intervalMs: null });
    const report = useReport(store.uses, ledger);
    const seen: { readonly subject: string | undefined; readonly lastAt: Date }[] = [];
    let page = await report.usersOf(keyId, 1, 5);
    for (;;) {
      seen.push(
        ...page.items.map(({ principal, lastAt }) => ({ subject: principal?.subject, lastAt })),
      );
      if (page.next === null) break;
      page = await report.usersOf(keyId, 1, 5, page.next);
    }
    expect(new Set(seen.map(({ subject }) => subject)).size).toBe(23);
    expect(seen.length).toBe(23);
    const times = seen.map(({ lastAt }) => lastAt.getTime());
    expect(times).toEqual(times.toSorted((a, b) => b - a));
  });

  it('tell what is reserved of each version of a key, and of no other', async () => {
    const [store, keyId] = [test.store(), randomUUID()];
    await store.keys.reserveUses(`${keyId}/1`, 64);
    await store.keys.reserveUses(`${keyId}/12`, 256);
    await store.keys.reserveUses(`${keyId}x/1`, 1);
    expect(await store.uses.countersOf(`${keyId}/`)).toEqual([
      { counter: `${keyId}/1`, used: 64 },
      { counter: `${keyId}/12`, used: 256 },
    ]);
    const ledger = new UseLedger(store.uses, { instance: randomUUID(), intervalMs: null });
    const { versions } = await useReport(store.uses, ledger).usesOf(keyId, { from: 2, until: 12 });
    expect(versions).toEqual([{ version: 12, protect: null, process: null, reserved: 256 }]);
  });

  it('counters above a number are told, the highest first', async () => {
    const { keys } = test.store();
    const [low, high, higher] = [randomUUID(), randomUUID(), randomUUID()];
    await keys.reserveUses(low, 2 ** 31);
    await keys.reserveUses(high, 2 ** 31 + 1);
    await keys.reserveUses(higher, 2 ** 33);
    const above = await keys.countersAbove(2 ** 31, 10);
    expect(above).toEqual([
      { counter: higher, used: 2 ** 33 },
      { counter: high, used: 2 ** 31 + 1 },
    ]);
    expect(await keys.countersAbove(2 ** 31, 1)).toEqual(above.slice(0, 1));
  });

  it.each([
    [
      'usage_counter_used_idx',
      'select counter from usage_counter where used > 5 order by used desc, counter limit 5',
    ],
    [
      'version_use_recent_idx',
      `select id from version_use where key_id = '${randomUUID()}' and version = 1
        and (last_at, id) < (now(), 5) order by last_at desc, id desc limit 5`,
    ],
    [
      'version_use_pkey|version_use_recent_idx',
      `select sum(uses) from version_use where key_id = '${randomUUID()}' and version between 1 and 2`,
    ],
    [
      'usage_counter_pkey',
      `select used from usage_counter where counter > 'a/' and counter < 'a/:' order by counter`,
    ],
  ])('has the index %s', async (index, sql) => {
    await withOwner(test.database(), async (owner) => {
      await owner.query('set enable_seqscan = off; set enable_sort = off');
      const { rows } = await owner.query<{ 'QUERY PLAN': string }>(`explain ${sql}`);
      const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
      expect(plan).toMatch(new RegExp(`(?:${index}).*(?:\\n.*)*Index Cond`, 'u'));
    });
  });
});

onEmbedded('a database that goes away', (test) => {
  it.each(['the answer', 'the connection'])(
    'counts once when %s is lost',
    async (what) => {
      const keyId = randomUUID();
      const relay = await startRelay(test.database().port);
      const instance = await openInstance(test.store());
      const far = openStore({ url: relay.url(test.database().appUrl) });
      const ledger = new UseLedger(far.uses, { instance, intervalMs: null });
      try {
        const count = () =>
          ledger.count({ keyId, version: 1 }, { issuer: 'urn:i', subject: 'a' }, 'protect', 5);
        count();
        await ledger.flush();
        count();
        if (what === 'the answer') relay.muteAnswers();
        else relay.cutAfter(/add_uses/u);
        expect(await rejection(ledger.flush())).toBeInstanceOf(OutcomeUnknown);
        await eventually(async () => (await totalOf(test.store(), keyId)) === 10);
        count();
        relay.unmute();
        await ledger.flush();
        expect(await totalOf(test.store(), keyId)).toBe(15);
        expect(ledger.lost).toBe(0);
      } finally {
        ledger.close();
        await far.close();
        await relay.close();
      }
    },
    30_000,
  );
});
