/** Promise P5 at its root: no entry commits under an epoch that a change has left behind. */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from '@jest/globals';
import { OutcomeUnknown } from '../../src/outcome.ts';
import type { Store } from '../../src/store/store.ts';
import { openStore } from '../../src/store/store.ts';
import { onEachMajor } from './majors.ts';
import { batch, bytes, changer, entry, openInstance, rejection } from './samples.ts';

const APPENDERS = 8;
const CHANGES = 25;

/** mulberry32: the run is repeated by its seed. */
const random = (seed: number) => (): number => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
};

/** Appends under the epoch that it was last told, as an instance that is never told of changes would. */
const appender = async (store: Store, next: () => number, ended: () => boolean) => {
  const instance = await openInstance(store);
  const lane = await store.audit.openLane(instance, 'use');
  let { epoch } = await store.instances.beat(instance, 0);
  const refused: number[] = [];
  for (let first = 1; !ended();) {
    // Each entry says in its operation under which epoch it was decided.
    const entries = Array.from({ length: 1 + Math.floor(next() * 20) }, () =>
      entry(bytes(16), { operation: `epoch-${epoch}` }),
    );
    const outcome = await store.audit.append(batch(lane, first, { epoch, entries }));
    if ('stale' in outcome) {
      refused.push(epoch);
      epoch = outcome.stale;
    } else {
      expect(outcome).toEqual({ epoch });
      first += entries.length;
    }
    await sleep(next() * 4);
  }
  return { lane, refused };
};

onEachMajor('epoch barrier', (test) => {
  it(`commits nothing under an old epoch: ${APPENDERS} appenders, ${CHANGES} changes`, async () => {
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31));
    console.log(`seed ${seed}`);
    const next = random(seed);
    const store = openStore({ url: test.database().appUrl, max: APPENDERS + 2 });
    try {
      let ended = false;
      const running = Array.from({ length: APPENDERS }, () => appender(store, next, () => ended));
      const changes = await changer(store);
      const lanes = new Map<number, number>();
      for (let count = 0; count < CHANGES; count += 1) {
        const epoch = await changes.commit([]);
        // What is committed now is all that may ever be committed under an earlier epoch.
        const { rows } = await store.pool.query<{ count: string }>(
          `select count(*) from public.entry where operation like 'epoch-%'
             and substr(operation, 7)::bigint < $1`,
          [epoch],
        );
        lanes.set(epoch, Number(rows[0]?.count));
        await sleep(next() * 20);
      }
      ended = true;
      const appended = await Promise.all(running);
      const refused = appended.flatMap((each) => each.refused);
      expect(refused.length).toBeGreaterThan(APPENDERS);
      for (const [epoch, then] of lanes) {
        const { rows } = await store.pool.query<{ count: string }>(
          `select count(*) from public.entry where operation like 'epoch-%'
             and substr(operation, 7)::bigint < $1`,
          [epoch],
        );
        expect(Number(rows[0]?.count)).toBe(then);
      }
      const { rows } = await store.pool.query(
        `select lane from public.entry group by lane having count(*) <> max(n)`,
      );
      expect(rows).toEqual([]);
    } finally {
      await store.close();
    }
  }, 60_000);

  it('holds a change back while an append is under way, and an append while a change is', async () => {
    const store = test.store();
    const instance = await openInstance(store);
    const lane = await store.audit.openLane(instance, 'use');
    const { epoch } = await store.instances.beat(instance, 0);
    const changes = await changer(store);
    const client = await store.pool.connect();
    try {
      await client.query('begin');
      await client.query('select pg_advisory_xact_lock_shared(7411)');
      let changed = false;
      const change = changes.commit([]).then((raised) => {
        changed = true;
        return raised;
      });
      await sleep(200);
      expect(changed).toBe(false);
      await client.query('commit');
      expect(await change).toBe(epoch + 1);

      await client.query('begin');
      await client.query('select pg_advisory_xact_lock(7411)');
      const late = store.audit.append(batch(lane, 1, { epoch: epoch + 1 }));
      await sleep(200);
      expect(await store.audit.leafAt(lane, 1)).toBeNull();
      await client.query('update public.security_epoch set epoch = epoch + 1');
      await client.query('commit');
      expect(await late).toEqual({ stale: epoch + 2 });
    } finally {
      client.release(true);
    }
  });

  it('gives a change up after its deadline, without effect, when the barrier is never free', async () => {
    const store = test.store();
    const changes = await changer(store);
    const change = await changes.change([]);
    const client = await store.pool.connect();
    try {
      await client.query('begin');
      await client.query('select pg_advisory_xact_lock_shared(7411)');
      const holding = setInterval(() => void client.query('select 1'), 500);
      const error = await rejection(store.keys.commit(change));
      clearInterval(holding);
      expect(error).toMatchObject({ code: 'database_unavailable' });
      expect(error).not.toBeInstanceOf(OutcomeUnknown);
      await client.query('commit');
    } finally {
      client.release(true);
    }
    expect(await store.audit.leafAt(changes.lane, 1)).toBeNull();
    expect(await store.keys.commit(change)).toEqual({ epoch: change.epoch + 1, held: false });
  });
});
