import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { UseLedger } from '../../src/keyring/use-ledger.ts';
import type { UseLedgerOptions } from '../../src/keyring/use-ledger.ts';
import { useReport } from '../../src/keyring/use-report.ts';
import { MemoryUses } from './memory-uses.ts';
import type { UseFault } from './memory-uses.ts';
import { codeOf } from './world.ts';

const open: UseLedger[] = [];
afterEach(() => {
  for (const ledger of open.splice(0)) ledger.close();
});

function ledgerOver(store: MemoryUses, options: Partial<UseLedgerOptions> = {}): UseLedger {
  const ledger = new UseLedger(store, { instance: 'i', intervalMs: null, ...options });
  open.push(ledger);
  return ledger;
}

const of = (version: number, keyId = 'k') => ({ keyId, version });
const who = (subject: string) => ({ issuer: 'urn:i', subject });
const totalIn = (store: MemoryUses) =>
  [...store.rows.values()].reduce((sum, { uses }) => sum + uses, 0);

describe('counting', () => {
  it('sums by version, way and principal, with the first and the last time', async () => {
    const store = new MemoryUses();
    let now = 1_000;
    const ledger = ledgerOver(store, { now: () => now });
    ledger.count(of(1), who('a'), 'protect');
    now = 2_000;
    ledger.count(of(1), who('a'), 'protect', 3);
    ledger.count(of(1), who('a'), 'process');
    ledger.count(of(2), who('b'), 'process');
    await ledger.flush();
    now = 3_000;
    ledger.count(of(1), who('a'), 'protect');
    await ledger.flush();
    const at = (ms: number) => new Date(ms);
    const row = { keyId: 'k', version: 1, issuer: 'urn:i', subject: 'a' };
    expect([...store.rows.values()]).toMatchObject([
      { ...row, usage: 'protect', uses: 5, firstAt: at(1_000), lastAt: at(3_000) },
      { ...row, usage: 'process', uses: 1, firstAt: at(2_000), lastAt: at(2_000) },
      { ...row, version: 2, subject: 'b', usage: 'process', uses: 1 },
    ]);
    await ledger.flush();
    expect(store.batches.length).toBe(2);
  });

  it('keeps its last time when the clock is set back', async () => {
    const store = new MemoryUses();
    const times = [5_000, 4_000];
    const ledger = ledgerOver(store, { now: () => times.shift() ?? 0 });
    ledger.count(of(1), who('a'), 'protect');
    ledger.count(of(1), who('a'), 'protect');
    await ledger.flush();
    expect([...store.rows.values()]).toMatchObject([
      { firstAt: new Date(5_000), lastAt: new Date(5_000) },
    ]);
  });

  it('counts what comes during a flush in the next one, which is one for all who wait', async () => {
    const store = new MemoryUses();
    const ledger = ledgerOver(store);
    ledger.count(of(1), who('a'), 'protect');
    store.meanwhile = async () => {
      store.meanwhile = () => Promise.resolve();
      ledger.count(of(1), who('a'), 'protect');
      await turn();
    };
    const first = ledger.flush();
    await turn();
    await Promise.all([first, ledger.flush(), ledger.flush()]);
    expect(store.batches.map(({ sums }) => sums.map(({ uses }) => uses))).toEqual([[1], [1]]);
    expect(totalIn(store)).toBe(2);
  });

  it('flushes early when many sums wait, and by itself at intervals', async () => {
    const store = new MemoryUses();
    const ledger = ledgerOver(store, { flushAt: 10 });
    for (let each = 0; each < 10; each += 1) ledger.count(of(each + 1), who('a'), 'protect');
    await turn();
    expect(totalIn(store)).toBe(10);
    const timed = ledgerOver(store, { instance: 'j', intervalMs: 1 });
    timed.count(of(1), who('a'), 'protect');
    while (totalIn(store) < 11) await new Promise((resolve) => setTimeout(resolve, 1));
  });

  it('has flushed everything once it has stopped', async () => {
    const store = new MemoryUses();
    const ledger = ledgerOver(store);
    ledger.count(of(1), who('a'), 'protect', 7);
    await ledger.stop();
    expect(totalIn(store)).toBe(7);
  });
});

describe('bounds', () => {
  it('tells so many principals of a version apart, and all others as one', async () => {
    const store = new MemoryUses();
    const ledger = ledgerOver(store, { maxPrincipals: 3 });
    for (let round = 0; round < 2; round += 1) {
      for (const name of ['a', 'b', 'c', 'd', 'e']) ledger.count(of(1), who(name), 'process');
      await ledger.flush();
    }
    ledger.count(of(2), who('e'), 'process');
    await ledger.flush();
    const report = useReport(store, ledger);
    const users = async (version: number) =>
      (await report.usersOf('k', version, 10)).items
        .map(({ principal, uses }) => [principal?.subject ?? null, uses])
        .toSorted();
    expect(await users(1)).toEqual(
      [
        ['a', 2],
        ['b', 2],
        ['c', 2],
        [null, 4],
      ].toSorted(),
    );
    expect(await users(2)).toEqual([['e', 1]]);
    expect(ledger.lost).toBe(0);
  });

  it('has no row for a name that no index row would hold', async () => {
    const store = new MemoryUses();
    const ledger = ledgerOver(store);
    ledger.count(of(1), { issuer: 'i'.repeat(400), subject: 's'.repeat(201) }, 'protect');
    await ledger.flush();
    expect([...store.rows.values()]).toMatchObject([{ issuer: '', subject: '', uses: 1 }]);
  });

  it('holds so many sums at most, and says how many uses are in none', async () => {
    const store = new MemoryUses();
    store.fault = () => 'before';
    const ledger = ledgerOver(store, { maxSums: 16 });
    for (let each = 0; each < 30; each += 1) ledger.count(of(1), who(`u${each}`), 'protect');
    expect(ledger.size).toBe(17);
    for (let each = 0; each < 50; each += 1) ledger.count(of(each + 2), who('a'), 'protect', 2);
    expect(ledger.size).toBe(20);
    expect(await codeOf(ledger.flush())).toBe('database_unavailable');
    // What is on its way stays as it is; the sums beside it are open for more.
    ledger.count(of(1), who('u0'), 'protect');
    expect(ledger.size).toBeLessThanOrEqual(20);
    store.fault = () => 'none';
    await ledger.flush();
    expect(totalIn(store) + ledger.lost).toBe(131);
    expect(ledger.lost).toBe(94);
  });

  it('forgets sums that were flushed to have room for others, and loses none', async () => {
    const store = new MemoryUses();
    const ledger = ledgerOver(store, { maxSums: 16, flushAt: 1_000 });
    for (let round = 0; round < 2; round += 1) {
      for (let each = 0; each < 200; each += 1) {
        ledger.count(of(each + 1), who('a'), 'protect');
        if (each % 8 === 7) await ledger.flush();
        expect(ledger.size).toBeLessThanOrEqual(16);
      }
    }
    expect([...store.rows.values()].map(({ uses, subject }) => `${subject}${uses}`)).toEqual(
      Array.from({ length: 200 }, () => 'a2'),
    );
    expect(ledger.lost).toBe(0);
  });
});

describe('a flush that fails', () => {
  it('is told of once, sent again under its number, and then goes on', async () => {
    const store = new MemoryUses();
    const told: unknown[] = [];
    const ledger = ledgerOver(store, { flushAt: 1, onTrouble: (error) => told.push(error) });
    store.fault = () => 'before';
    for (let each = 0; each < 3; each += 1) {
      ledger.count(of(each + 1), who('a'), 'protect');
      for (let more = 0; more < 5; more += 1) await turn();
    }
    expect(told.length).toBe(1);
    store.fault = () => 'none';
    await ledger.flush();
    expect(totalIn(store)).toBe(3);
    expect(new Set(store.batches.map(({ number }) => number))).toEqual(new Set([1, 2]));
  });

  it('counts once when it had been written and nobody knew', async () => {
    const store = new MemoryUses();
    const ledger = ledgerOver(store);
    store.fault = () => 'lost-after';
    ledger.count(of(1), who('a'), 'protect', 5);
    expect(await codeOf(ledger.flush())).toBe('database_unavailable');
    ledger.count(of(1), who('a'), 'protect', 2);
    store.fault = () => 'none';
    await ledger.flush();
    expect(totalIn(store)).toBe(7);
  });

  it('is given up when the database refuses it for good, and others are not', async () => {
    const store = new MemoryUses();
    const ledger = ledgerOver(store);
    store.fault = () => 'refused';
    ledger.count(of(1), who('a'), 'protect', 5);
    expect(await codeOf(ledger.flush())).toBe('internal');
    store.fault = () => 'none';
    ledger.count(of(1), who('a'), 'protect', 2);
    await ledger.flush();
    expect([totalIn(store), ledger.lost]).toEqual([2, 5]);
  });

  it('leaves every sum exact, whatever fails and whenever (property)', async () => {
    const faults: readonly UseFault[] = ['none', 'before', 'lost-before', 'lost-after'];
    const step = fc.oneof(
      fc.record({
        instance: fc.nat(2),
        version: fc.integer({ min: 1, max: 3 }),
        subject: fc.constantFrom('a', 'b', 'c', 'd'),
        usage: fc.constantFrom('protect' as const, 'process' as const),
        uses: fc.integer({ min: 1, max: 9 }),
      }),
      fc.record({ instance: fc.nat(2), fault: fc.constantFrom(...faults) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
        const store = new MemoryUses();
        const ledgers = ['x', 'y', 'z'].map((instance) => ledgerOver(store, { instance }));
        const expected = new Map<string, number>();
        for (const each of steps) {
          const ledger = ledgers[each.instance];
          if ('fault' in each) {
            store.fault = () => each.fault;
            await ledger?.flush().catch(() => undefined);
            continue;
          }
          const { version, subject, usage, uses } = each;
          ledger?.count(of(version), who(subject), usage, uses);
          const place = `${version} ${subject} ${usage}`;
          expected.set(place, (expected.get(place) ?? 0) + uses);
        }
        store.fault = () => 'none';
        for (const ledger of ledgers) await ledger.stop();
        const found = [...store.rows.values()].map(
          ({ version, subject, usage, uses }) => [`${version} ${subject} ${usage}`, uses] as const,
        );
        expect(new Map(found)).toEqual(expected);
      }),
    );
  });
});
