/** Reads that hang, or come in storms, leave connections to what must commit. */
import { randomUUID } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { ReadGate } from '../../src/store/read-gate.ts';
import { openStore } from '../../src/store/store.ts';
import { eventually } from './eventually.ts';
import { onEmbedded } from './majors.ts';
import { withOwner } from './owner.ts';
import { batch, key, keyQuery, openInstance, rejection } from './samples.ts';
import { stopwatch } from '../waited.ts';

describe('a gate', () => {
  it('runs so many at a time, in turn, and gives a place back after a failure', async () => {
    const gate = new ReadGate(2.9);
    const begun: number[] = [];
    const ends: (() => void)[] = [];
    const run = (index: number, fails: boolean) =>
      gate.run(async () => {
        begun.push(index);
        await new Promise<void>((resolve) => ends.push(resolve));
        if (fails) throw new Error('failed');
      });
    const runs = [0, 1, 2, 3, 4].map((index) => run(index, index % 2 === 0));
    const outcomes = Promise.allSettled(runs);
    for (let ended = 0; ended < 5; ended += 1) {
      await eventually(async () => begun.length === Math.min(ended + 2, 5));
      ends[ended]?.();
    }
    await outcomes;
    expect(begun).toEqual([0, 1, 2, 3, 4]);
  });

  it('refuses what did not get its turn in time', async () => {
    const gate = new ReadGate(0);
    let end = (): void => undefined;
    const first = gate.run(() => new Promise<void>((resolve) => (end = resolve)));
    const error = await rejection(gate.run(async () => 1));
    expect(error).toMatchObject({ code: 'database_unavailable' });
    end();
    await first;
    expect(await gate.run(async () => 2)).toBe(2);
  });
});

onEmbedded('a store whose reads all hang', (test) => {
  it.each([
    [2, 1],
    [3, 2],
    [10, 8],
  ])(
    'still appends: of %i connections they hold %i',
    async (max, hanging) => {
      const store = openStore({ url: test.database().appUrl, max });
      try {
        const instance = await openInstance(store);
        const lane = await store.audit.openLane(instance, 'use');
        const { epoch } = await store.instances.beat(instance, 0);
        const known = { name: key().name };
        await withOwner(test.database(), async (owner) => {
          // Names, lists and records of repeats wait for these; appends and heartbeats do not.
          await owner.query(
            'begin; lock table public.key, public.idempotency in access exclusive mode',
          );
          const reads = Array.from({ length: 20 }, () => [
            store.keys.list(keyQuery()),
            store.keys.find('default', known, 0),
            store.keys.findIdempotent('default', new Uint8Array(32), randomUUID()),
          ]).flat();
          const outcomes = Promise.allSettled(reads);
          await eventually(async () => {
            const { rows } = await owner.query<{ waiting: number }>(
              'select count(*)::int as waiting from pg_locks where not granted',
            );
            return rows[0]?.waiting === hanging;
          });
          for (let first = 1; first <= 20; first += 1) {
            const elapsed = stopwatch();
            expect(await store.audit.append(batch(lane, first, { epoch }))).toEqual({ epoch });
            expect(elapsed()).toBeLessThan(1000);
          }
          await owner.query('rollback');
          await outcomes;
        });
        expect(await store.keys.list(keyQuery())).toEqual({ keys: [], next: null });
      } finally {
        await store.close();
      }
    },
    30_000,
  );
});
