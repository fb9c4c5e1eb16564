/** What a primary answers that was made a standby: reads as before, and nothing that has to be committed. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, it } from '@jest/globals';

import { createPool } from '../../src/store/pool.ts';
import { openStore } from '../../src/store/store.ts';
import { COMMITTED, commitStatement, committedRead } from '../../src/store/transaction.ts';
import { hasPostgres15, startPostgres15 } from './postgres-15.ts';
import { rejection } from './samples.ts';

(hasPostgres15 ? it : it.skip)(
  'is an outage, and no fault of the service',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'twofold-recovery-'));
    const server = await startPostgres15(folder);
    const pool = createPool({ url: server.ownerUrl, max: 2, connectDeadlineMs: 15_000 });
    const store = openStore({ url: server.ownerUrl });
    try {
      await commitStatement(pool, 'create table one (x integer)', []);
      const told = () => committedRead(pool, `select 1 as x from ${COMMITTED}`, []);
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
    } finally {
      await store.close();
      await pool.end();
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  },
  60_000,
);
