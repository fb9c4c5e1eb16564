/** What every service reads needs no Prisma, whose query compiler stays in memory for as long as the process lives. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it, jest } from '@jest/globals';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { startTestDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';
import { bytes } from './samples.ts';

const loaded = jest.fn();
const absent = { yet: true };
jest.unstable_mockModule('@prisma/adapter-pg', () => {
  loaded();
  if (absent.yet) throw new Error('the adapter cannot be read');
  return jest.requireActual('@prisma/adapter-pg');
});

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

const LIST = { namespace: 'default', pageSize: 10, now: new Date() } as const;
const list = () =>
  store.operations.list({ ...LIST, kind: null, creator: null, state: null, after: null });

it('is not loaded by a start, by housekeeping or by looking up repeats', async () => {
  const { installation } = await store.roots.intend(1, randomUUID());
  expect(await store.roots.generations()).toMatchObject([{ generation: 1, installation }]);
  expect(await store.roots.hasKeys()).toBe(false);
  await store.expireIdempotency(new Date());
  await store.expireOperations(new Date());
  expect(await store.keys.findIdempotent('default', bytes(32), 'k')).toBeNull();
  expect(loaded).not.toHaveBeenCalled();
});

it('is loaded by the first read that asks it, anew where that failed, and once for all', async () => {
  await expect(list()).rejects.toThrow();
  expect(loaded).toHaveBeenCalled();
  loaded.mockClear();
  absent.yet = false;
  expect(await Promise.all([list(), list()])).toEqual([[], []]);
  await store.keys.tombstones(randomUUID());
  expect(loaded).toHaveBeenCalledTimes(1);
});

it('closes a store that never loaded it', async () => {
  const other = openStore({ url: database.appUrl });
  await other.close();
});
