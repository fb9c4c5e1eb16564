import { randomUUID } from 'node:crypto';
import { expect, it } from '@jest/globals';
import { LIVE_SECONDS } from '../../src/store/instance-store.ts';
import { onEachMajor } from './majors.ts';
import { withOwner } from './owner.ts';
import { changer, openInstance, rejection } from './samples.ts';

onEachMajor('instance store', (test) => {
  const instances = () => test.store().instances;
  const open = async (suites: readonly number[], envelopes: readonly number[] = [1]) => {
    const id = randomUUID();
    await instances().open({ id, zone: 'b', suites, envelopes, graceMs: 0 });
    return id;
  };
  const set = (id: string, assignment: string) =>
    withOwner(test.database(), (owner) =>
      owner.query(`update public.instance set ${assignment} where id = $1`, [id]),
    );

  it('tells the epoch and whether it is fenced', async () => {
    const id = await open([1]);
    const { epoch } = await instances().beat(id, 0);
    expect(await (await changer(test.store())).commit([])).toBe(epoch + 1);
    expect(await instances().beat(id, epoch)).toEqual({ epoch: epoch + 1, fenced: false });
    await set(id, 'fenced = true');
    expect(await instances().beat(id, epoch + 1)).toEqual({ epoch: epoch + 1, fenced: true });
  });

  it('remembers the highest epoch that an instance has confirmed', async () => {
    const id = await open([1]);
    await instances().beat(id, 40);
    await instances().beat(id, 39);
    const { rows } = await test
      .store()
      .pool.query<{ beat: string; epoch_seen: string }>(
        'select beat, epoch_seen from public.instance where id = $1',
        [id],
      );
    expect(rows).toEqual([{ beat: '2', epoch_seen: '40' }]);
  });

  it('refuses beats of an instance that is closed or was never opened', async () => {
    const id = await openInstance(test.store());
    await instances().close(id);
    await instances().close(id);
    expect(await rejection(instances().beat(id, 0))).toMatchObject({ code: 'internal' });
    expect(await rejection(instances().beat(randomUUID(), 0))).toMatchObject({ code: 'internal' });
    expect(await rejection(test.store().audit.openLane(id, 'use'))).toMatchObject({
      code: 'internal',
    });
  });

  it('lets a suite be written once every live instance reads it', async () => {
    await withOwner(test.database(), (owner) =>
      owner.query('update public.instance set closed = true'),
    );
    await open([7, 8], [1, 2]);
    expect(await instances().allRead(7, 2)).toBe(true);
    const old = await open([7]);
    expect(await instances().allRead(7, 1)).toBe(true);
    expect(await instances().allRead(8, 1)).toBe(false);
    expect(await instances().allRead(7, 2)).toBe(false);
    for (const [gone, back] of [
      ['fenced = true', 'fenced = false'],
      ['closed = true', 'closed = false'],
      [`beat_at = now() - interval '${LIVE_SECONDS + 1} s'`, 'beat_at = now()'],
    ] as const) {
      await set(old, gone);
      expect(await instances().allRead(8, 2)).toBe(true);
      await set(old, back);
      expect(await instances().allRead(8, 2)).toBe(false);
    }
  });
});
