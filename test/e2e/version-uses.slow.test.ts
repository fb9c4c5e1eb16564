/** Counts of uses in a real service: what stops, kills and several processes leave of them. */
import { afterEach, expect, it } from '@jest/globals';

import { eventually } from '../store/eventually.ts';
import { withDatabaseOf } from './inspection.ts';
import { TestService } from './service.ts';
import { startWorkers } from './worker-service.ts';

let service: TestService | undefined;
afterEach(async () => {
  await service?.destroy();
  service = undefined;
}, 60_000);

const wrapTimes = async (at: TestService, times: number) => {
  for (let each = 0; each < times; each += 1) {
    const body = { plaintext: Buffer.from('x').toString('base64') };
    const headers = { connection: 'close' };
    const { status } = await at.request('POST', '/v1/keys/k/wrap', body, { role: 'user', headers });
    expect(status).toBe(200);
  }
};
const create = (at: TestService) =>
  at.request('POST', '/v1/admin/keys', { name: 'k', suite: 'A256GCM' });
const shown = async (at: TestService): Promise<unknown> => {
  const headers = { connection: 'close' };
  const { json } = await at.request('GET', '/v1/admin/keys/k/versions', undefined, { headers });
  return (json['items'] as { protectUses: number }[])[0]?.protectUses;
};
/** What has been flushed, without asking the service. */
const flushed = (dataDir: string): Promise<number> =>
  withDatabaseOf(dataDir, async (client) => {
    const { rows } = await client.query<{ uses: string }>(
      `select coalesce(sum(uses), 0) as uses from version_use where usage = 'protect'`,
    );
    return Number(rows[0]?.uses);
  });

it('are flushed by themselves and by a stop; a kill loses what was not flushed, and no more', async () => {
  service = await TestService.start();
  const { dataDir } = service;
  await create(service);
  await wrapTimes(service, 3);
  await service.stop();
  service = await TestService.start({ dataDir });
  expect(await flushed(dataDir)).toBe(3);
  await wrapTimes(service, 4);
  await eventually(async () => (await flushed(dataDir)) === 7, 60_000);
  await wrapTimes(service, 2);
  await service.kill();
  service = await TestService.start({ dataDir });
  const after = await shown(service);
  expect([7, 8, 9]).toContain(after);
  await wrapTimes(service, 1);
  expect(await shown(service)).toBe(Number(after) + 1);
}, 180_000);

it('of several processes add up', async () => {
  service = await startWorkers(2);
  const { dataDir } = service;
  await create(service);
  await wrapTimes(service, 20);
  await eventually(async () => (await flushed(dataDir)) === 20, 60_000);
  expect(await shown(service)).toBe(20);
  const instances = await withDatabaseOf(dataDir, async (client) => {
    const { rows } = await client.query('select instance from use_flush');
    return rows.length;
  });
  expect(instances).toBe(2);
}, 180_000);
