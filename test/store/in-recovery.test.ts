/** What a primary answers that was made a standby: reads as before, and nothing that has to be committed. */
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, it } from '@jest/globals';

import { createPool } from '../../src/store/pool.ts';
import { openStore } from '../../src/store/store.ts';
import {
  COMMITTED,
  commitStatement,
  committedRead,
  committing,
  committingStatements,
} from '../../src/store/transaction.ts';
import { withClient } from './owner.ts';
import { hasPostgres15, startPostgres15 } from './postgres-15.ts';
import { rejection } from './samples.ts';

const STORE = join(import.meta.dirname, '../../src/store');

/** Every statement that is said to commit, also of what no store opens. */
async function allCommitting() {
  const modules = readdirSync(STORE).filter((name) => name.endsWith('-store.ts'));
  for (const name of modules) await import(join(STORE, name));
  const made = committingStatements();
  const calls = modules.flatMap((name) => [
    ...readFileSync(join(STORE, name), 'utf8').matchAll(/\bcommitting\(/gu),
  ]);
  expect(made.length).toBeGreaterThanOrEqual(calls.length);
  return made;
}

/** Values that find nothing. */
const nothing = (text: string): null[] => {
  const places = [...text.matchAll(/\$(\d+)/gu)].map(([, place]) => Number(place));
  return Array.from({ length: Math.max(0, ...places) }, () => null);
};

(hasPostgres15 ? it : it.skip)(
  'is an outage, and no fault of the service',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'twofold-recovery-'));
    const server = await startPostgres15(folder);
    const pool = createPool({ url: server.ownerUrl, max: 2, connectDeadlineMs: 15_000 });
    const store = openStore({ url: server.ownerUrl });
    try {
      await commitStatement(pool, 'create table one (x integer)', []);
      const one = committing({ name: 'one', text: `select 1 as x from ${COMMITTED}` });
      const told = () => committedRead(pool, one, []);
      expect(await told()).toEqual([{ x: 1 }]);
      await server.demote();
      expect((await pool.query('select 1 as x')).rows).toEqual([{ x: 1 }]);
      const refused = [
        told(),
        commitStatement(pool, 'insert into one values (1)', []),
        // Of which there is nothing: a plan that finds that out first commits nothing.
        store.sequencer.lanes(true),
        store.sequencer.intake([{ lane: 1, from: 1, until: 2 }], true),
        store.log.tile(1, 0, 1, true),
      ];
      for (const error of await Promise.all(refused.map(rejection))) {
        expect(error).toMatchObject({ code: 'database_unavailable' });
      }
      // So with every other, also where it finds nothing; not `confirm_epoch`, which first refuses who is no instance.
      const made = await allCommitting();
      await withClient(server.ownerUrl, async (client) => {
        for (const { name, text } of made.filter((each) => each.text.includes(COMMITTED))) {
          const answer = client.query(text, nothing(text)).then(() => 'an answer', String);
          expect([name, await answer]).toEqual([name, expect.stringMatching(/during recovery$/u)]);
        }
      });
    } finally {
      await store.close();
      await pool.end();
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  },
  60_000,
);
