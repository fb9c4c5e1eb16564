/**
 * The tail of an audit lane is gone, as after a restore: the service gives the lane up, is red for as
 * long, and goes on in a new one without a restart.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import type { Entry } from '../../src/audit/entry.ts';
import { withDatabaseOf } from '../e2e/inspection.ts';
import { TestService } from '../e2e/service.ts';
import { eventually } from '../store/eventually.ts';

let service: TestService;

beforeAll(async () => {
  service = await TestService.start();
}, 120_000);
afterAll(async () => {
  await service.destroy();
}, 60_000);

const change = (name: string) =>
  service.request('POST', '/v1/admin/keys', { name, suite: 'HS256' });

const use = () => service.request('POST', '/v1/keys/standing/mac', { message: 'AAAA' });

async function auditState(): Promise<string> {
  const { json } = await service.request('GET', '/readyz', undefined, { role: null });
  return JSON.stringify(json);
}

/** But for the log: where the entries were in its tree already, it says for good that they are gone. */
const ready = async (): Promise<boolean> => {
  const { json } = await service.request('GET', '/readyz', undefined, { role: null });
  const checks = json['checks'] as readonly { name: string; ready: boolean }[];
  return checks.every((check) => check.ready || check.name === 'log');
};

/** As the owner, who can switch the triggers off. Answers the lane. */
const cutTail = (kind: 'use' | 'change'): Promise<number> =>
  withDatabaseOf(service.dataDir, async (client) => {
    const { rows } = await client.query<{ id: number }>(
      'select id from public.lane where kind = $1 and not closed order by id desc limit 1',
      [kind],
    );
    const lane = rows[0]?.id ?? 0;
    await client.query('begin');
    await client.query('alter table public.entry disable trigger user');
    await client.query('delete from public.entry where lane = $1', [lane]);
    await client.query('alter table public.entry enable trigger user');
    await client.query('commit');
    return lane;
  });

/** The first entry of the newest lane. */
const newestOpening = (): Promise<Partial<Entry>> =>
  withDatabaseOf(service.dataDir, async (client) => {
    const { rows } = await client.query<{ body: Buffer }>(
      'select body from public.entry where n = 1 order by lane desc limit 1',
    );
    const [row] = rows;
    return row === undefined ? {} : decodeEntry(row.body);
  });

describe('a lane whose tail is gone', () => {
  it('of changes: one change is refused, health is red, then a new lane', async () => {
    expect((await change('standing')).status).toBe(201);
    let lane = 0;
    let red = false;
    // An idle lane that failed is tried again every second: the next one may be open before anybody looks.
    for (let cut = 0; cut < 5 && !red; cut += 1) {
      lane = await cutTail('change');
      const refused = await change('refused');
      expect(refused).toMatchObject({ status: 503, json: { code: 'database_unavailable' } });
      red = (await auditState()).includes('not-durable');
      await eventually(ready, 10_000);
    }
    expect(red).toBe(true);
    expect((await change('refused')).status).toBe(201);
    expect(await newestOpening()).toMatchObject({
      operation: 'lane.open',
      detail: { kind: 'change', replaces: lane },
    });
  }, 60_000);

  it('of uses: the entry goes into a new lane', async () => {
    expect((await use()).status).toBe(200);
    const lane = await cutTail('use');
    expect((await use()).status).toBe(200);
    await eventually(ready, 10_000);
    expect(await newestOpening()).toMatchObject({
      operation: 'lane.open',
      detail: { kind: 'use', replaces: lane },
    });
  }, 60_000);
});
