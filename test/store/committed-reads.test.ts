/** Reads that only the primary answers: each commits a record of its own, whatever it finds. */
import { randomUUID } from 'node:crypto';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { COMMITTED, committedRead, committing } from '../../src/store/transaction.ts';
import { startTestDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';
import { rowsAsOwner } from './owner.ts';

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

/** How far the journal has been written, in bytes. */
async function journal(): Promise<bigint> {
  const [row] = await rowsAsOwner<{ at: string }>(
    database,
    `select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::text as at`,
  );
  return BigInt(row?.at ?? '');
}

const history = (name: string | null) =>
  store.sets.history({ kind: 'policy', namespace: 'none', name, before: null, pageSize: 10 });

describe('a read that finds nothing', () => {
  // An old primary could answer one that commits nothing.
  it.each([
    ['of one request to join', () => store.joins.find(randomUUID()), null],
    ['of all requests to join', () => store.joins.list(), []],
    ['of the newest backup', () => store.backups.newest(), null],
    ['of the members at a revision', () => store.sets.membersAt('policy', 'none', 1), []],
    ['of the history of a set', () => history(null), []],
    ['of the history of a member', () => history('nobody'), []],
    ['of the kinds of sets', () => store.sets.kinds('none'), []],
    ['of who has the root open', () => store.rootRotations.holders(), []],
    ['of zones that have had the root open', () => store.rootRotations.zonesHolding(1), []],
    ['of imports under the root', () => store.rootRotations.importsGivenAt(1, 3_600_000), null],
  ] as const)('commits all the same: %s', async (_, ask, nothing) => {
    for (let turn = 0; turn < 3; turn += 1) {
      const before = await journal();
      expect(await ask()).toEqual(nothing);
      expect(await journal()).toBeGreaterThan(before);
    }
  });
});

describe('a statement', () => {
  it('that commits nothing is none that committed reads take', () => {
    const plain = { name: 'plain', text: 'select 1 as x' };
    // @ts-expect-error: only `committing` makes one
    const read = () => committedRead(store.pool, plain, []);
    expect(read).toBeInstanceOf(Function);
    expect(() => committing(plain)).toThrow('plain commits nothing');
  });

  it('has a name of its own, under which each connection prepares it', () => {
    const twice = { name: 'twice', text: `select 1 as x from ${COMMITTED}` };
    expect(committing(twice)).toEqual(twice);
    expect(() => committing(twice)).toThrow('there are two statements twice');
  });
});
