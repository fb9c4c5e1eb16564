/**
 * An instance whose database says that its time is over, or that has lost what it had acknowledged:
 * it answers nothing more, whatever happens to the database afterwards, until it is started again.
 */
import { afterEach, describe, expect, it } from '@jest/globals';
import type pg from 'pg';

import { withDatabaseOf } from '../e2e/inspection.ts';
import { TestService } from '../e2e/service.ts';
import { eventually } from '../store/eventually.ts';
import { healthOf, untilReady } from './load.ts';

let service: TestService;

const asOwner = <T>(use: (client: pg.Client) => Promise<T>) => withDatabaseOf(service.dataDir, use);
const run = (sql: string) => asOwner((client) => client.query(sql));

const wrap = () => service.request('POST', '/v1/keys/kept/wrap', { plaintext: 'AAAA' });
const suspend = () => service.request('POST', '/v1/admin/keys/kept/suspend', { reason: 'x' });

/** What a restore does: the owner may, since no server's role can. */
const setEpoch = (change: string) =>
  asOwner(async (client) => {
    await client.query('alter table security_epoch disable trigger security_epoch_rises');
    await client.query(`update security_epoch set epoch = epoch ${change}`);
    await client.query('alter table security_epoch enable trigger security_epoch_rises');
  });

const databaseState = async () => {
  const { states } = await healthOf(service);
  return states['database'];
};

async function expectEnded(state: string): Promise<void> {
  await eventually(async () => (await databaseState()) === state, 20_000);
  expect((await healthOf(service)).status).toBe(503);
  const refused = [
    await wrap(),
    await suspend(),
    await service.request('GET', '/v1/keys/kept'),
    await service.request('GET', '/v1/audit/entries'),
    await service.request('POST', '/v1/admin/keys', { name: 'more', suite: 'A256GCM' }),
  ];
  for (const { status, json } of refused) {
    expect([status, json.code]).toEqual([503, 'audit_unavailable']);
    expect(json['ciphertext']).toBeUndefined();
  }
  const { rows } = await run(
    `select 1 from key where name = 'more' or (name = 'kept' and suspended_at is not null)`,
  );
  expect(rows).toEqual([]);
}

async function expectStartedAnew(): Promise<void> {
  const { dataDir } = service;
  await service.stop();
  service = await TestService.start({ dataDir });
  await untilReady(service);
  expect((await wrap()).status).toBe(200);
}

describe('an instance', () => {
  afterEach(() => service.destroy(), 60_000);

  it('that was fenced, set back, or lost its row answers nothing until it is started again', async () => {
    service = await TestService.start();
    const made = { name: 'kept', suite: 'A256GCM' };
    expect((await service.request('POST', '/v1/admin/keys', made)).status).toBe(201);
    expect((await wrap()).status).toBe(200);

    await run('update instance set fenced = true where not closed');
    await expectEnded('fenced');
    await run('update instance set fenced = false');
    await expectEnded('fenced');
    await expectStartedAnew();

    await setEpoch('- 1');
    await expectEnded('set-back');
    // Changes of others may raise it again, beyond where it was.
    await setEpoch('+ 5');
    await expectEnded('set-back');
    await expectStartedAnew();

    // The epoch has been raised again before anybody looked: the heartbeats tell.
    await run('update instance set beat = 0 where not closed');
    await expectEnded('set-back');
    await expectStartedAnew();

    await run('delete from instance where not closed');
    await expectEnded('closed');
    await expectStartedAnew();
  }, 240_000);
});
