/** Events in the database: with their change or not at all, in the order of commits, until they expire. */
import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, it } from '@jest/globals';
import type { EventPlace, EventQuery, NewEvent } from '../../src/keyring/event-ports.ts';
import type { KeyWrite } from '../../src/keyring/ports.ts';
import { EVENTS_AFTER } from '../../src/store/event-store.ts';
import { onEachMajor } from './majors.ts';
import type { TestStore } from './majors.ts';
import { withClient } from './owner.ts';
import { attested, changer, key } from './samples.ts';
import type { Changer } from './samples.ts';

const anEvent = (over: Partial<NewEvent> = {}): KeyWrite => ({
  kind: 'insert-event',
  event: {
    n: 1,
    type: 'key.updated',
    namespace: 'default',
    keyId: randomUUID(),
    keyName: 'k',
    auditId: '1-1',
    data: { reason: 'ü "x"', changed: { labels: { from: [], to: ['a'] } } },
    ...over,
  },
});

onEachMajor('events', (test: TestStore) => {
  let changes: Changer;
  beforeAll(async () => {
    changes = await changer(test.store());
  });
  const page = (over: Partial<EventQuery> = {}) =>
    test.store().events.page({
      namespace: 'default',
      after: null,
      until: null,
      type: null,
      keyId: null,
      pageSize: 100,
      ...over,
    });
  const end = async (): Promise<EventPlace> => (await page({ pageSize: 1000 })).next;
  const asOwner = (sql: string) =>
    withClient(test.database().ownerUrl, (owner) => owner.query(sql));

  it('are written with their change, at the epoch that it makes', async () => {
    const after = await end();
    const writes = [anEvent(), anEvent({ n: 2, type: 'key.rotated' })];
    const epoch = await changes.commit(writes);
    const { items, next, more } = await page({ after });
    expect(items.map((item) => [item.epoch, item.n, item.type])).toEqual([
      [epoch, 1, 'key.updated'],
      [epoch, 2, 'key.rotated'],
    ]);
    expect(items[0]).toMatchObject({ data: { reason: 'ü "x"' }, auditId: '1-1', keyName: 'k' });
    expect({ next, more }).toEqual({ next: { epoch: epoch + 1, n: 0 }, more: false });
  });

  it('are rolled back with their change', async () => {
    const after = await end();
    const missing = key();
    const failing = { kind: 'update-key', row: attested(missing), expected: 1 } as const;
    const change = await changes.change([anEvent(), failing]);
    await expect(test.store().keys.commit(change)).rejects.toMatchObject({ code: 'conflict' });
    expect((await page({ after })).items).toEqual([]);
  });

  it('are not written twice by a commit that is repeated', async () => {
    const other = await changer(test.store());
    const after = await end();
    const change = await other.change([anEvent()]);
    const first = await test.store().keys.commit(change);
    expect(await test.store().keys.commit(change)).toEqual(first);
    expect((await page({ after })).items).toHaveLength(1);
  });

  it('come in pages, by namespace, type and key, up to an epoch', async () => {
    const after = await end();
    const keyId = randomUUID();
    const first = await changes.commit([anEvent({ keyId })]);
    await changes.commit([anEvent({ namespace: 'other' }), anEvent({ n: 2, type: 'key.rotated' })]);
    const last = await changes.commit([anEvent({ keyId, type: 'key.rotated' })]);
    const one = await page({ after, pageSize: 1 });
    expect(one).toMatchObject({ next: { epoch: first, n: 1 }, more: true });
    const two = await page({ after: one.next, pageSize: 1 });
    expect(two.items).toMatchObject([{ epoch: first + 1, n: 2 }]);
    expect((await page({ after, type: 'key.rotated' })).items).toHaveLength(2);
    expect((await page({ after, keyId })).items.map(({ epoch }) => epoch)).toEqual([first, last]);
    const early = await page({ after, until: first });
    expect(early.items).toHaveLength(1);
    expect(early.next).toEqual({ epoch: first + 1, n: 0 });
    expect(await page({ after: { epoch: last, n: 1 }, until: first })).toMatchObject({
      items: [],
      next: { epoch: last, n: 1 },
    });
  });

  it('have no place ahead of the database', async () => {
    const { epoch } = await end();
    expect((await page({ after: { epoch, n: 0 } })).items).toEqual([]);
    await expect(page({ after: { epoch, n: 1 } })).rejects.toMatchObject({ code: 'invalid_value' });
  });

  describe('expiry', () => {
    const old = `now() - interval '40 days'`;
    const insert = (namespace: string, n: number) =>
      asOwner(`insert into public.event values
        (0, ${String(n)}, 'key.updated', '${namespace}', gen_random_uuid(), 'k', ${old}, '1-1', '{}')`);

    it('removes the oldest, in bounded steps, and says so to who missed them', async () => {
      for (const n of [1, 2, 3]) await insert('default', n);
      await insert('quiet', 4);
      const monthAgo = new Date(Date.now() - 30 * 86_400_000);
      const { events } = test.store();
      expect(await events.expire(monthAgo, 2)).toBe(2);
      await expect(page({ after: { epoch: 0, n: 1 } })).rejects.toMatchObject({
        code: 'events_expired',
      });
      expect((await page({ after: { epoch: 0, n: 2 } })).items[0]).toMatchObject({ n: 3 });
      expect((await page({ namespace: 'quiet', after: { epoch: 0, n: 0 } })).items).toHaveLength(1);
      expect([await events.expire(monthAgo, 100), await events.expire(monthAgo, 100)]).toEqual([
        2, 0,
      ]);
      expect((await page()).items[0]?.epoch).toBeGreaterThan(0);
    });

    it('removes none that is younger than a day, whoever asks', async () => {
      const epoch = await changes.commit([anEvent()]);
      expect(await test.store().events.expire(new Date('2100-01-01'), 10_000)).toBe(0);
      expect((await page({ after: { epoch, n: 0 } })).items).toHaveLength(1);
    });

    it('is the only way for the server to remove or change one', async () => {
      for (const sql of [
        'delete from public.event',
        `update public.event set type = 'x'`,
        'delete from public.event_horizon',
        `insert into public.event_horizon values ('x', 1, 1)`,
      ]) {
        const refused = withClient(test.database().appUrl, (app) => app.query(sql));
        await expect(refused).rejects.toMatchObject({ code: '42501' });
      }
      for (const sql of [`update public.event set type = 'x'`, 'truncate public.event']) {
        await expect(asOwner(sql)).rejects.toMatchObject({ code: 'TF004' });
      }
    });
  });

  it('are found by an index, in its order where there are many', async () => {
    await asOwner(`insert into public.event
      select -i, 1, 'key.updated', case when i % 1000 = 0 then 'rare' else 'usual' end,
        gen_random_uuid(), 'k', now(), '1-1', '{}'
      from generate_series(1, 20000) i`);
    await asOwner('analyze public.event');
    const planOf = async (namespace: string) => {
      const literal = [`'${namespace}'`, '-15000', '1', '9000000', 'null', 'null', '100'];
      const sql = EVENTS_AFTER.replace(/\$(\d)/g, (_, at: string) => literal[Number(at) - 1] ?? '');
      return JSON.stringify((await asOwner(`explain ${sql}`)).rows);
    };
    expect(await planOf('usual')).toMatch(/Index Scan using event_(pkey|namespace_epoch_n_idx)/);
    expect(await planOf('usual')).not.toMatch(/Sort|Seq Scan/);
    expect(await planOf('rare')).toContain('event_namespace_epoch_n_idx');
  });

  it('are looked at in bounded steps by a page with a filter, and none is passed over', async () => {
    const keyId = randomUUID();
    for (const n of [-17_777, -5_001, -3]) {
      await asOwner(`insert into public.event
        select ${String(n)}, 2, 'key.rotated', 'usual', '${keyId}', 'k', now(), '1-1', '{}'`);
    }
    const filters = [{ keyId }, { type: 'key.rotated' }, { type: 'key.rotated', keyId }];
    for (const filter of filters) {
      const found: number[] = [];
      let [after, pages, more] = [{ epoch: -20_001, n: 0 } as EventPlace, 0, true];
      while (more) {
        const answer = await page({ namespace: 'usual', after, pageSize: 2, ...filter });
        found.push(...answer.items.map(({ epoch }) => epoch));
        ({ next: after, more } = answer);
        pages += 1;
      }
      expect(found).toEqual([-17_777, -5_001, -3]);
      // 19,983 events, 5,000 a page, and no page goes further because it found little.
      expect(pages).toBeGreaterThanOrEqual(4);
      expect(after.epoch).toBeGreaterThan(0);
    }
    const none = await page({
      namespace: 'usual',
      after: { epoch: -20_001, n: 0 },
      until: -16_000,
      type: 'key.destroyed',
    });
    expect(none).toEqual({ items: [], next: { epoch: -15_999, n: 0 }, more: false });
  });
});
