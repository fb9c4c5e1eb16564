/** A real service gives its entries their indexes, and signs what the log holds with its HSM's key. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { wholeLogBy } from '../audit/sequenced-log.ts';
import type { WholeLog } from '../audit/sequenced-log.ts';
import { withDatabaseOf } from './inspection.ts';
import { TestService } from './service.ts';

let service: TestService;

beforeAll(async () => {
  service = await TestService.start({ ready: true });
}, 90_000);
afterAll(() => service.destroy());

const log = (): Promise<WholeLog> => withDatabaseOf(service.dataDir, wholeLogBy);

/** The log once it holds the entry. */
async function logWith(id: string): Promise<WholeLog> {
  for (let tries = 0; tries < 100; tries += 1) {
    const whole = await log();
    if (whole.entries.some((entry) => entry.id === id)) return whole;
    await sleep(100);
  }
  throw new Error(`${id} got no index`);
}

const use = async (): Promise<string> => {
  const { headers, status } = await service.request('POST', '/v1/random', { bytes: 16 });
  expect(status).toBe(200);
  return headers.get('Twofold-Audit-Id') ?? '';
};

it('within two seconds or so', async () => {
  const began = performance.now();
  const whole = await logWith(await use());
  expect(performance.now() - began).toBeLessThan(5_000);
  const last = whole.checkpoints.at(-1);
  const [, signatures = ''] = last?.note.split('\n\n') ?? [];
  expect(signatures.trim().split('\n')).toHaveLength(2);
}, 30_000);

it('on and on, over stops and starts', async () => {
  const before = await logWith(await use());
  await service.stop();
  service = await TestService.start({ dataDir: service.dataDir });
  const after = await logWith(await use());
  expect(after.entries.slice(0, before.size)).toEqual(before.entries);
  const operations = await withDatabaseOf(service.dataDir, async (client) => {
    const { rows } = await client.query<{ operation: string }>(
      "select operation from public.entry where operation like 'sequencer.%' order by at, lane, n",
    );
    return rows.map(({ operation }) => operation);
  });
  // A busy process may lose its term and take the next one, in one instant of two lanes.
  expect(operations.slice(0, -2)).toContain('sequencer.elected');
  expect(operations.slice(-2)).toEqual(['sequencer.lost', 'sequencer.elected']);
}, 60_000);
