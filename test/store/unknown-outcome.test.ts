/** Answers that never arrive: the store says that it does not know, and (lane, n) tells. */
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { OutcomeUnknown } from '../../src/outcome.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { onEmbedded } from './majors.ts';
import { withOwner } from './owner.ts';
import { startRelay } from './relay.ts';
import type { Relay } from './relay.ts';
import { batch, changer, entry, insert, key, openInstance, rejection } from './samples.ts';
import { eventually } from './eventually.ts';
import { stopwatch } from '../waited.ts';

onEmbedded('unknown outcomes', (test) => {
  let relay: Relay;
  /** Reaches the database through the relay. */
  let far: Store;
  beforeEach(async () => {
    relay = await startRelay(test.database().port);
    far = openStore({ url: relay.url(test.database().appUrl) });
  });
  afterEach(async () => {
    await far.close();
    await relay.close();
  });

  const useLane = async () => {
    const near = test.store();
    const instance = await openInstance(near);
    const lane = await near.audit.openLane(instance, 'use');
    return { lane, epoch: (await near.instances.beat(instance, 0)).epoch };
  };

  it('append: the connection is cut between the commit and its answer', async () => {
    const { lane, epoch } = await useLane();
    const sent = batch(lane, 1, { epoch, entries: [entry(), entry()] });
    relay.cutAfter(/append/u);
    expect(await rejection(far.audit.append(sent))).toBeInstanceOf(OutcomeUnknown);
    await eventually(async () => (await far.audit.leafAt(lane, 2)) !== null);
    expect(await far.audit.leafAt(lane, 1)).toEqual(sent.entries[0]?.leaf);
    expect(await far.audit.append(sent)).toEqual({ epoch });
    expect(await far.audit.leafAt(lane, 3)).toBeNull();
  });

  it('append: the answer comes too late', async () => {
    const { lane, epoch } = await useLane();
    const sent = batch(lane, 1, { epoch });
    await far.audit.leafAt(lane, 1);
    relay.muteAnswers();
    const elapsed = stopwatch();
    expect(await rejection(far.audit.append(sent))).toBeInstanceOf(OutcomeUnknown);
    expect(elapsed()).toBeLessThan(4000);
    relay.unmute();
    expect(await far.audit.append(sent)).toEqual({ epoch });
    expect(await far.audit.leafAt(lane, 2)).toBeNull();
  });

  it('change: the connection is cut between the commit and its answer', async () => {
    const changes = await changer(test.store());
    const row = key();
    const change = await changes.change(insert(row));
    relay.cutAfter(/commit_change/u);
    expect(await rejection(far.keys.commit(change))).toBeInstanceOf(OutcomeUnknown);
    await eventually(async () => (await far.audit.leafAt(changes.lane, 1)) !== null);
    expect(await far.audit.leafAt(changes.lane, 1)).toEqual(change.entry.leaf);
    expect((await far.keys.find('default', { name: row.name }, 0))?.versions).toHaveLength(1);
    expect(await far.keys.commit(change)).toEqual({ epoch: change.epoch + 1, held: false });
    expect(await far.audit.changesSince(change.epoch)).toHaveLength(1);
  });

  it('change: the server process is killed before the commit', async () => {
    const changes = await changer(test.store());
    const row = key();
    const change = await changes.change(insert(row));
    await withOwner(test.database(), async (owner) => {
      await owner.query('begin');
      await owner.query('select pg_advisory_xact_lock_shared(7411)');
      const failed = rejection(far.keys.commit(change));
      // twofold_owner may not signal another role's process: the process itself is found and ended.
      await eventually(async () => {
        const { rows } = await owner.query<{ pid: number }>(
          `select pid from pg_locks where locktype = 'advisory' and not granted`,
        );
        const [waiting] = rows;
        if (waiting !== undefined) process.kill(waiting.pid, 'SIGTERM');
        return waiting !== undefined;
      });
      expect(await failed).toBeInstanceOf(OutcomeUnknown);
      await owner.query('rollback');
    });
    expect(await far.audit.leafAt(changes.lane, 1)).toBeNull();
    expect(await far.keys.find('default', { name: row.name }, 0)).toBeNull();
    expect(await far.keys.commit(change)).toEqual({ epoch: change.epoch + 1, held: false });
  });

  it('never repeats by itself what may have happened', async () => {
    const { lane, epoch } = await useLane();
    await far.audit.leafAt(lane, 1);
    const before = relay.sent().length;
    relay.cutAfter(/append/u);
    await rejection(far.audit.append(batch(lane, 1, { epoch })));
    expect(
      relay
        .sent()
        .slice(before)
        .match(/public\.append/gu),
    ).toHaveLength(1);
  });
});
