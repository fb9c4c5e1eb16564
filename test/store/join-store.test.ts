/** Requests of zones that join, on a real database: what goes on, what is over, and what only the owner could. */
import { randomBytes, randomUUID } from 'node:crypto';

import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';

import { EXPIRED, MOST_JOINS } from '../../src/store/join-store.ts';
import type { JoinPosting } from '../../src/store/join-store.ts';
import { sqlState } from '../../src/store/outcome.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { codeOf } from '../keyring/world.ts';
import { startTestDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';
import { rowsAsOwner, withOwner } from './owner.ts';

let database: TestDatabase;
let store: Store;
beforeAll(async () => {
  database = await startTestDatabase();
  store = openStore({ url: database.appUrl });
}, 60_000);
afterAll(async () => {
  await store.close();
  await database.stop();
});
beforeEach(() => asOwner('truncate public.join_request'));

const asOwner = async (sql: string): Promise<void> => {
  await withOwner(database, (client) => client.query(sql));
};
const posting = (zone = 'zone-b'): JoinPosting => ({
  ...{ id: randomUUID(), zone, offer: `{"of":"${zone}"}`, requestedBy: 'Ada Lovelace' },
  fingerprint: Uint8Array.from(randomBytes(48)),
});
const ANSWER = {
  ...{ approvedBy: 'Grace Hopper', answeredFrom: 'zone-a', answer: 'an answer' },
  mac: Uint8Array.from(randomBytes(36)),
};
const posted = async (zone?: string): Promise<JoinPosting> => {
  const made = posting(zone);
  await store.joins.post(made);
  return made;
};
const expire = (): Promise<void> =>
  asOwner(`alter table public.join_request disable trigger join_request_goes_on;
    update public.join_request set requested_at = requested_at - interval '2 hours',
      expires_at = expires_at - interval '2 hours';
    alter table public.join_request enable trigger join_request_goes_on`);

describe('a request', () => {
  it('lives for an hour, is answered once and accepted once, and then holds no answer', async () => {
    const made = await posted();
    const open = await store.joins.find(made.id);
    expect(open).toMatchObject({ ...made, state: 'open', expired: false, answered: null });
    expect((open?.expiresAt.getTime() ?? 0) - (open?.requestedAt.getTime() ?? 0)).toBe(3_600_000);
    expect(await store.joins.answer(made.id, ANSWER)).toBe(true);
    expect(await store.joins.answer(made.id, { ...ANSWER, answer: 'another' })).toBe(false);
    expect(await store.joins.find(made.id)).toMatchObject({ state: 'answered', answered: ANSWER });
    expect(await store.joins.end(made.id, 'answered', 'accepted')).toBe(true);
    expect(await store.joins.end(made.id, 'answered', 'accepted')).toBe(false);
    expect(await store.joins.find(made.id)).toMatchObject({
      state: 'accepted',
      answered: { ...ANSWER, answer: null },
      problem: null,
    });
    expect(await store.joins.answer(made.id, ANSWER)).toBe(false);
  });

  it('is neither answered nor accepted when it has expired, and loses its answer when it is looked at', async () => {
    const [made, other] = [await posted(), await posted('zone-c')];
    await store.joins.answer(other.id, ANSWER);
    await expire();
    expect(await store.joins.answer(made.id, ANSWER)).toBe(false);
    expect(await store.joins.end(other.id, 'answered', 'accepted')).toBe(false);
    const over = { state: 'ended', expired: true, problem: EXPIRED };
    expect(await store.joins.find(made.id)).toMatchObject(over);
    const answers = () => rowsAsOwner(database, 'select answer from public.join_request');
    expect(await answers()).toEqual([{ answer: null }, { answer: null }]);
    expect(await store.joins.list()).toMatchObject([over, over]);

    // By whoever posts, and whoever lists, as well.
    for (const look of [() => posted('zone-d'), () => store.joins.list()]) {
      const { id } = await posted('zone-e');
      await store.joins.answer(id, ANSWER);
      await expire();
      await look();
      const held = 'select 1 from public.join_request where answer is not null';
      expect(await rowsAsOwner(database, held)).toEqual([]);
    }
  });

  it('ends when its zone asks anew, answered or not, and no other zone’s does', async () => {
    const [other, first] = [await posted('zone-c'), await posted()];
    await store.joins.answer(first.id, ANSWER);
    const second = await posted();
    expect(await store.joins.find(first.id)).toMatchObject({
      state: 'ended',
      problem: 'a newer request took its place',
      answered: { answer: null },
    });
    const states = (await store.joins.list()).map(({ id, state }) => [id, state]);
    expect(states).toEqual([
      [second.id, 'open'],
      [first.id, 'ended'],
      [other.id, 'open'],
    ]);
  });

  it('does not come a second time with the same offer', async () => {
    const { fingerprint } = await posted();
    expect(await codeOf(store.joins.post({ ...posting(), fingerprint }))).toBe('conflict');
    // Nothing of that remains: the one that was open still is.
    expect((await store.joins.list()).map(({ state }) => state)).toEqual(['open']);
  });

  it('is one of a bounded number, of which those that expired are none', async () => {
    for (let count = 0; count < MOST_JOINS; count += 1) await posted(`zone-${String(count)}`);
    expect(await codeOf(store.joins.post(posting('one-more')))).toBe('quota_exceeded');
    await posted('zone-0');
    await expire();
    await posted('one-more');
    await asOwner(`alter table public.join_request disable trigger join_request_goes_on;
      update public.join_request set requested_at = requested_at - interval '91 days',
        expires_at = expires_at - interval '91 days';
      alter table public.join_request enable trigger join_request_goes_on`);
    await posted('the-last');
    expect((await store.joins.list()).map(({ zone }) => zone)).toEqual(['the-last']);
  });

  it('is not made another, longer or an earlier one by the role of the server', async () => {
    const { id } = await posted();
    const write = (set: string) =>
      store.pool.query(`update public.join_request set ${set} where id = $1`, [id]).then(
        () => 'none',
        (error: unknown) => sqlState(error),
      );
    for (const column of ['zone', 'offer', 'requested_by']) {
      // insufficient_privilege: not even to try.
      expect([column, await write(`${column} = 'x'`)]).toEqual([column, '42501']);
    }
    expect(await write(`expires_at = expires_at + interval '1 hour'`)).toBe('42501');
    await store.joins.answer(id, ANSWER);
    expect(await write(`approved_by = 'x'`)).toBe('TF004');
    expect(await write(`state = 'open', answer = null`)).toBe('TF004');
    await store.joins.end(id, 'answered', { problem: 'x' });
    expect(await write(`state = 'answered', answer = 'x', ended_at = null`)).toBe('TF004');
    expect(await store.joins.find(id)).toMatchObject({ state: 'ended' });
  });
});
