/** Instances that hold allowance are killed: what all of them together let through stays what is stated. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Limiter } from '../../src/limits/limiter.ts';
import { leaseOf, rateOf } from '../../src/limits/rate.ts';
import { openStore } from '../../src/store/store.ts';
import { startTestDatabase } from '../store/database.ts';
import { eventually } from '../store/eventually.ts';
import { setWallClock } from '../store/wall-clock.ts';
import type { TestDatabase } from '../store/database.ts';

const ROUNDS = Number(process.env['TWOFOLD_TEST_LIMIT_KILLS'] ?? 4);
const BURST = 2_000;
const CHILD = join(import.meta.dirname, 'limit-child.ts');

let database: TestDatabase;
let folder: string;
beforeAll(async () => {
  database = await startTestDatabase();
  // No bucket fills: what was let through can be counted.
  await setWallClock(database, Date.UTC(2030, 0, 1));
  folder = mkdtempSync(join(tmpdir(), 'twofold-limits-'));
}, 60_000);
afterAll(async () => {
  await database.stop();
  rmSync(folder, { recursive: true });
}, 60_000);

/** Two that are killed at any time after their first request; how many each let through. */
async function killed(bucket: string): Promise<readonly number[]> {
  const files = [0, 1].map((n) => join(folder, `${bucket}-${String(n)}`));
  const children = files.map((file) => {
    writeFileSync(file, '');
    const argv = [CHILD, database.appUrl, file, bucket, String(BURST)];
    return spawn(process.execPath, argv, { stdio: 'ignore' });
  });
  const countOf = (file: string) => readFileSync(file, 'latin1').length;
  try {
    await eventually(() => Promise.resolve(files.every((file) => countOf(file) > 0)), 30_000);
    await sleep(Math.random() * 150);
  } finally {
    for (const child of children) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }
  }
  return files.map(countOf);
}

it('let through together what is stated, and lose at most what they held', async () => {
  for (let round = 0; round < ROUNDS; round += 1) {
    const bucket = `killed-${String(round)}`;
    const before = await killed(bucket);
    expect(before.every((count) => count > 0)).toBe(true);
    const store = openStore({ url: database.appUrl });
    const limiter = new Limiter({ store: store.limits });
    const limit = { name: 'n', bucket, owner: '', rate: rateOf(60, BURST) };
    const lease = leaseOf(limit.rate);
    let after = 0;
    for (let refused = 0; refused < 20;) {
      if (limiter.charge([limit], 1).refused === null) after += 1;
      else {
        await limiter.settled();
        refused += 1;
      }
    }
    await store.close();
    const all = before.reduce((sum, count) => sum + count, after);
    // Each of the three may be two leases beyond; each of the killed took with it a lease and a half at most,
    // one that it held and what a lease under way was to fill it up with.
    expect(all).toBeLessThanOrEqual(BURST + 3 * 2 * lease);
    expect(all).toBeGreaterThanOrEqual(BURST - 2 * 1.5 * lease);
  }
}, 60_000);
