/** Runs a suite on each PostgreSQL that is here: the embedded 18, and Debian's 15 where installed. */
import { afterAll, beforeAll, describe, it } from '@jest/globals';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { startTestDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';
import { hasPostgres15 } from './postgres-15.ts';

export interface TestStore {
  database(): TestDatabase;
  store(): Store;
}

const present = <T>(value: T | undefined): T => {
  if (value === undefined) throw new Error('the database has not been started');
  return value;
};

const suite = (name: string, major: 15 | 18, body: (test: TestStore) => void): void => {
  describe(`${name} (PostgreSQL ${major})`, () => {
    let database: TestDatabase | undefined;
    let store: Store | undefined;
    beforeAll(async () => {
      database = await startTestDatabase({ major });
      store = openStore({ url: database.appUrl });
    }, 60_000);
    afterAll(async () => {
      await store?.close();
      await database?.stop();
    }, 60_000);
    body({ database: () => present(database), store: () => present(store) });
  });
};

export const onEachMajor = (name: string, body: (test: TestStore) => void): void => {
  suite(name, 18, body);
  onMajor15(name, body);
};

/** Its superuser `postgres` needs no password; the embedded one's is nobody's. */
export const onMajor15 = (name: string, body: (test: TestStore) => void): void => {
  if (hasPostgres15) suite(name, 15, body);
  else it.skip(`${name}: PostgreSQL 15 is not installed here`, () => undefined);
};

export const onEmbedded = (name: string, body: (test: TestStore) => void): void =>
  suite(name, 18, body);
