/** A primary whose standbys are gone shows rows that may yet be lost; it cannot commit. */
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { OutcomeUnknown } from '../../src/outcome.ts';
import { onMajor15 } from './majors.ts';
import { withClient } from './owner.ts';
import {
  attested,
  batch,
  bytes,
  changer,
  insert,
  key,
  openInstance,
  rejection,
} from './samples.ts';
import { createPool } from '../../src/store/pool.ts';
import { COMMITTED, commitStatement } from '../../src/store/transaction.ts';
import { readReplication } from '../../src/store/replication.ts';
import { eventually } from './eventually.ts';

onMajor15('a missing standby', (test) => {
  const superUrl = () => {
    const url = new URL(test.database().ownerUrl);
    url.username = 'postgres';
    return url.toString();
  };
  const asSuper = (sql: string) => withClient(superUrl(), (admin) => admin.query(sql));
  const administer = async (setting: string) => {
    await withClient(superUrl(), async (admin) => {
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

  it('does not take an append for durable because it is seen when it is sent again', async () => {
    const { audit } = test.store();
    const sent = batch(lane, 1, { epoch });
    await administer('nobody');
    expect(await rejection(audit.append(sent))).toBeInstanceOf(OutcomeUnknown);
    // As a restart of the server does, or an operator who ends what hangs: the wait is over, and no standby has it.
    await asSuper(
      `select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`,
    );
    await eventually(async () => (await audit.entry(lane, 1)) !== null);
    expect(await rejection(audit.append(sent))).toBeInstanceOf(OutcomeUnknown);
    await administer('');
    expect(await audit.append(sent)).toEqual({ epoch });
  }, 30_000);

  it('does not answer a repeated request by a record that is merely seen', async () => {
    const { keys } = test.store();
    const writer = await changer(test.store());
    const value = {
      ...{ namespace: 'default', principal: bytes(32), key: 'seen', requestHash: bytes(32) },
      ...{ status: 201, body: '{}', auditId: `${String(writer.lane)}-1` },
    };
    const record = attested(value);
    const change = await writer.change(insert(key()), { idempotency: record });
    const found = () => keys.findIdempotent('default', value.principal, 'seen');
    await administer('nobody');
    expect(await rejection(keys.commit(change))).toBeInstanceOf(OutcomeUnknown);
    await asSuper(
      `select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`,
    );
    await withClient(superUrl(), (admin) =>
      eventually(async () => (await admin.query('select 1 from idempotency')).rowCount === 1),
    );
    expect(await rejection(found())).toMatchObject({ code: 'database_unavailable' });
    await administer('');
    expect(await found()).toEqual(record);
  }, 30_000);

  it('keeps no more connections of those who gave up than there were when commits were held back', async () => {
    const { appUrl } = test.database();
    const pool = createPool({ url: appUrl, max: 4, statementDeadlineMs: 300 });
    const waiting = async () => {
      const sql = `select count(*)::int as n from pg_stat_activity where wait_event = 'SyncRep'`;
      return (await pool.query<{ n: number }>(sql)).rows[0]?.n;
    };
    const commit = () =>
      commitStatement(pool, `select 1 from ${COMMITTED}`, [], { deadlineMs: 400 });
    try {
      await commit();
      await administer('nobody');
      const until = performance.now() + 4_000;
      const writers = Array.from({ length: 12 }, async () => {
        while (performance.now() < until) await rejection(commit());
      });
      await Promise.all(writers);
      expect(pool.circuit.open).toBe(true);
      const left = await waiting();
      expect(left).toBeGreaterThanOrEqual(4);
      // Four at once until the fifth gave up; one more may have had leave before.
      expect(left).toBeLessThanOrEqual(9);
      await rejection(commit());
      expect(await waiting()).toBe(left);
      await administer('');
      await eventually(async () => (await waiting()) === 0);
      await commit();
      expect(pool.circuit.open).toBe(false);
    } finally {
      await pool.end();
    }
  }, 30_000);
});
