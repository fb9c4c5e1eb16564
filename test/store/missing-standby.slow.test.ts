/** A primary whose standbys are gone shows rows that may yet be lost; it cannot commit. */
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { OutcomeUnknown } from '../../src/outcome.ts';
import { onMajor15 } from './majors.ts';
import { withClient } from './owner.ts';
import { batch, openInstance, rejection } from './samples.ts';
import { readReplication } from '../../src/store/replication.ts';
import { eventually } from './eventually.ts';

onMajor15('a missing standby', (test) => {
  const administer = async (setting: string) => {
    const url = new URL(test.database().ownerUrl);
    url.username = 'postgres';
    await withClient(url.toString(), async (admin) => {
      await admin.query(`alter system set synchronous_standby_names = '${setting}'`);
      await admin.query('select pg_reload_conf()');
      await eventually(async () => {
        const { rows } = await admin.query<{ now: string }>(
          `select current_setting('synchronous_standby_names') as now`,
        );
        return rows[0]?.now === setting;
      });
    });
  };
  let lane = 0;
  let epoch = 0;
  beforeEach(async () => {
    const instance = await openInstance(test.store());
    lane = await test.store().audit.openLane(instance, 'use');
    ({ epoch } = await test.store().instances.beat(instance, 0));
  });
  afterEach(() => administer(''));

  it('is waited for or not, as PostgreSQL shows the role of the server', async () => {
    const shown = { primary: true, synchronousCommit: 'on', fsync: true };
    const { pool } = test.store();
    expect(await readReplication(pool)).toMatchObject({ ...shown, standbyNames: '' });
    await administer('ANY 1 (z2, z3)');
    expect(await readReplication(pool)).toEqual({
      ...{ ...shown, standbyNames: 'ANY 1 (z2, z3)' },
      // Who waits for whom is not for its eyes.
      synchronousStandbys: null,
    });
  });

  it('leaves an append unknown, and does not tell its leaf before a standby has it', async () => {
    const { audit } = test.store();
    const sent = batch(lane, 1, { epoch });
    await administer('nobody');
    expect(await rejection(audit.append(sent))).toBeInstanceOf(OutcomeUnknown);
    const told = await rejection(audit.leafAt(lane, 1));
    expect(told).toMatchObject({ code: 'database_unavailable' });
    expect(told).not.toBeInstanceOf(OutcomeUnknown);
    // Nor what a decision would stand on: only a primary that can commit tells it.
    const reads = [
      audit.changesSince(0),
      test.store().instances.confirmed(),
      test.store().keys.find('default', { name: 'none' }, 0),
    ].map(rejection);
    for (const error of await Promise.all(reads)) {
      expect(error).toMatchObject({ code: 'database_unavailable' });
      expect(error).not.toBeInstanceOf(OutcomeUnknown);
    }
    await administer('');
    // The abandoned commit becomes visible when its backend wakes, not when the setting is read.
    await eventually(async () => (await audit.leafAt(lane, 1)) !== null);
    expect(await audit.leafAt(lane, 1)).toEqual(sent.entries[0]?.leaf);
    expect(await audit.append(sent)).toEqual({ epoch });
  }, 30_000);
});
