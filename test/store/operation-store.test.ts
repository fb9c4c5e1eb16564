/** What the operation table itself does: the pace that instances share, and what goes after a time. */
import { randomUUID } from 'node:crypto';
import { beforeAll, expect, it } from '@jest/globals';
import { onEachMajor } from './majors.ts';
import type { TestStore } from './majors.ts';
import { withClient } from './owner.ts';

const DAY_MS = 86_400_000;

onEachMajor('operations', (test: TestStore) => {
  const ids = { live: randomUUID(), silent: randomUUID(), gone: randomUUID() };
  const insert = (id: string, state: string, expires: number, rate = 10) =>
    withClient(test.database().ownerUrl, (owner) =>
      owner.query(
        `insert into public.operation values ($1, 'rewrap', 'default', null, '{"total":null}', 'i',
           's', $2, now(), '\\x00', $3, null, 0, '{"failed":1}', now(), $4, 1)`,
        [id, rate, state, new Date(Date.now() + expires)],
      ),
    );

  beforeAll(async () => {
    await insert(ids.live, 'running', DAY_MS);
    await insert(ids.silent, 'running', -30 * DAY_MS);
    await insert(ids.gone, 'succeeded', -61 * DAY_MS);
  });

  it('are read as they were written, in their namespace alone', async () => {
    const { operations } = test.store();
    const found = await operations.find('default', ids.live);
    expect(found).toMatchObject({
      identity: { value: { id: ids.live, kind: 'rewrap', keyId: null, request: { total: null } } },
      progress: { state: 'running', position: 0, counts: { failed: 1 }, revision: 1 },
    });
    expect(await operations.find('other', ids.live)).toBeNull();
    expect(await operations.find('default', randomUUID())).toBeNull();
  });

  it('share their rate: of two that ask at once, one is told to wait', async () => {
    const { operations } = test.store();
    // Ten a second, of which one second may be made up for: 1,000 take a hundred.
    const waits = await Promise.all([1000, 1000].map((items) => operations.pace(ids.live, items)));
    const [first = -1, second = -1] = waits.toSorted((a, b) => a - b);
    expect(first).toBe(0);
    expect(second).toBeGreaterThan(30_000);
    expect(second).toBeLessThanOrEqual(100_000);
  });

  it('go when they have been over for a month', async () => {
    await test.store().expireOperations(new Date());
    const { operations } = test.store();
    const left = await Promise.all(
      Object.values(ids).map(async (id) => (await operations.find('default', id)) !== null),
    );
    expect(left).toEqual([true, true, false]);
  });
});
