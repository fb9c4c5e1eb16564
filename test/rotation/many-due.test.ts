/** Very many keys due at once: a few of them here, 100,000 in `npm run bench -- many-due`. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PolicyRun } from '../../src/keyring/namespace-policies.ts';
import { aRun } from '../keyring/world.ts';
import { copyKey } from '../store/key-copies.ts';
import { rowsAsOwner, withClient } from '../store/owner.ts';
import { DAY, openStage, TERMS } from './stage.ts';
import type { Stage } from './stage.ts';

const KEYS = Number(process.env['TWOFOLD_DUE_KEYS'] ?? 150);
const PER_MINUTE = 120;

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
}, 60_000);
afterAll(() => stage.stop(), 60_000);

it('rotate as the budget lets them, each once, while unwraps are answered', async () => {
  const { first, clock, database, store } = stage;
  const of = await first.create({ suite: 'A256GCM' });
  const used = await first.create({ suite: 'A256GCM' });
  const ciphertext = await first.wrap(used, 'beside');
  const copies = { of, count: KEYS, prefix: 'due-', activatedAt: new Date(clock.now - 60 * DAY) };
  await withClient(database.ownerUrl, (owner) => copyKey(owner, store, first.root.mac, copies));
  const run: PolicyRun = { ...aRun(), render: () => ({ status: 200, body: '' }) };
  const input = { name: 'all', selector: {}, priority: 0, terms: { ...TERMS, interval: 'P30D' } };
  await first.ruling.put(first.grant('rotation-policies.change', null), input, run);
  let [answered, ended] = [0, false];
  const beside = (async () => {
    while (!ended) {
      expect(await first.unwrap(used, ciphertext)).toBe('beside');
      answered += 1;
      await sleep(2);
    }
  })();
  const { scheduler } = first.scheduler({ perMinute: PER_MINUTE, marks: 2_000 });
  const began = clock.now;
  const done = async (): Promise<number> => {
    const [row] = await rowsAsOwner<{ n: number }>(
      database,
      `select count(*)::integer as n from public.scheduled_run where action like 'rotate/%'`,
    );
    return row?.n ?? 0;
  };
  let rotated = 0;
  try {
    for (; rotated < KEYS; rotated = await done()) {
      await scheduler.tick();
      const minutes = (clock.now - began) / 60_000;
      // What falls due between two ticks may come at once: two seconds of it.
      expect(await done()).toBeLessThanOrEqual(minutes * PER_MINUTE + 4);
      expect(minutes).toBeLessThan((1.2 * KEYS) / PER_MINUTE + 1);
      clock.now += 2_000;
    }
  } finally {
    ended = true;
    await beside;
  }
  const runs = await rowsAsOwner<{ keys: number; runs: number }>(
    database,
    'select count(distinct key_id)::integer as keys, count(*)::integer as runs from public.scheduled_run',
  );
  expect(runs).toEqual([{ keys: KEYS, runs: KEYS }]);
  expect(answered).toBeGreaterThan(KEYS / 10);
  expect(stage.failures).toEqual([]);
}, 120_000);
