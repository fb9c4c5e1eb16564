/** The database goes away and comes back: one code meanwhile, recovery by itself, nothing lost. */
import { afterEach, expect, it } from '@jest/globals';
import { OutcomeUnknown } from '../../src/outcome.ts';
import { listenEpoch } from '../../src/store/epoch-listener.ts';
import { eventually } from './eventually.ts';
import { onEmbedded } from './majors.ts';
import {
  auditQuery,
  batch,
  bytes,
  changer,
  insert,
  key,
  keyQuery,
  openInstance,
  rejection,
} from './samples.ts';
import { withChildren } from '../e2e/processes.ts';
import { stopwatch } from '../waited.ts';

onEmbedded('outages', (test) => {
  let frozen: readonly number[] = [];
  const thaw = () => {
    for (const pid of frozen) process.kill(pid, 'SIGCONT');
    frozen = [];
  };
  afterEach(thaw);

  it('frozen: every call ends by its deadline, and works again afterwards', async () => {
    const store = test.store();
    const instance = await openInstance(store);
    const lane = await store.audit.openLane(instance, 'use');
    const { epoch } = await store.instances.beat(instance, 0);
    const changes = await changer(store);
    const row = key();
    const change = await changes.change(insert(row));
    const sent = batch(lane, 1, { epoch });
    // Connections for both writes, so that each has been sent when nothing answers any more.
    const sleeps = Array.from({ length: 4 }, () => store.pool.query('select pg_sleep(0.05)'));
    await Promise.all(sleeps);
    frozen = withChildren(test.database().pid());
    for (const pid of frozen) process.kill(pid, 'SIGSTOP');
    const elapsed = stopwatch();
    const writes = await Promise.all([
      rejection(store.audit.append(sent)),
      rejection(store.keys.commit(change)),
      rejection(store.keys.reserveUses('counter', 1)),
    ]);
    const reads = await Promise.all([
      rejection(store.keys.find('default', { name: row.name }, 0)),
      rejection(store.keys.list(keyQuery())),
      rejection(store.audit.leafAt(lane, 1)),
      rejection(store.audit.entries(auditQuery())),
      rejection(store.keys.findIdempotent('default', bytes(32), 'k')),
      rejection(store.roots.generations()),
      rejection(store.instances.allRead({ suite: 1, envelope: 1 }, { id: row.id, silentMs: 0 })),
    ]);
    expect(elapsed()).toBeLessThan(8000);
    for (const error of [...writes, ...reads]) {
      expect(error).toMatchObject({ name: 'TwofoldError', code: 'database_unavailable' });
    }
    expect(writes.slice(0, 2)).toEqual([expect.any(OutcomeUnknown), expect.any(OutcomeUnknown)]);
    for (const error of reads) expect(error).not.toBeInstanceOf(OutcomeUnknown);
    thaw();
    await eventually(() =>
      store.keys.list(keyQuery()).then(
        () => true,
        () => false,
      ),
    );
    // What was frozen may still take effect; the same bytes again are answered either way.
    const appended = await store.audit.append(sent);
    const committed = await store.keys.commit(change);
    expect([{ epoch }, { stale: epoch + 1 }]).toContainEqual(appended);
    expect(committed).toEqual({ epoch: epoch + 1, held: false });
    expect((await store.keys.find('default', { name: row.name }, 0))?.versions).toHaveLength(1);
  }, 60_000);

  it('killed and started again: acknowledged is kept, and a listener hears of changes again', async () => {
    const store = test.store();
    const changes = await changer(store);
    const heard: number[] = [];
    const listener = listenEpoch({ url: test.database().appUrl }, (epoch) => heard.push(epoch));
    try {
      const kept: string[] = [];
      const before = await changes.commit([]);
      await eventually(async () => heard.includes(before));
      for (let count = 0; count < 5; count += 1) {
        const row = key();
        await changes.commit(insert(row));
        kept.push(row.name);
      }
      const old = test.database().pid();
      process.kill(old, 'SIGKILL');
      const missing = store.keys.find('default', { name: 'none' }, 0);
      await missing.catch((error: unknown) => {
        expect(error).toMatchObject({ code: 'database_unavailable' });
      });
      await eventually(
        () =>
          store.keys.find('default', { name: 'none' }, 0).then(
            (none) => none === null && test.database().pid() !== old,
            () => false,
          ),
        30_000,
      );
      for (const name of kept) {
        expect((await store.keys.find('default', { name }, 0))?.versions).toHaveLength(1);
      }
      const after = await changes.commit([]);
      await eventually(async () => heard.includes(after));
    } finally {
      await listener.close();
    }
  }, 60_000);
});
