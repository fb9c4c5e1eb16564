/** Instances that hold allowance are killed: what all of them together let through stays what is stated. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Limiter } from '../../src/limits/limiter.ts';
import { creditOf, leaseOf, quotaOf, rateOf } from '../../src/limits/rate.ts';
import type { Rate } from '../../src/limits/rate.ts';
import { openStore } from '../../src/store/store.ts';
import { startTestDatabase } from '../store/database.ts';
import { eventually } from '../store/eventually.ts';
import { setWallClock } from '../store/wall-clock.ts';
import type { TestDatabase } from '../store/database.ts';

const ROUNDS = Number(process.env['TWOFOLD_TEST_LIMIT_KILLS'] ?? 4);
const BURST = 2_000;
/** So large that none of those that are killed uses up all of it. */
const QUOTA = 20_000;
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
async function killed(
  bucket: string,
  kind: 'rate' | 'quota' = 'rate',
  generation = 0,
): Promise<readonly number[]> {
  const name = `${bucket}-${String(generation)}`;
  const files = [0, 1].map((n) => join(folder, `${name}-${String(n)}`));
  const children = files.map((file) => {
    writeFileSync(file, '');
    const most = String(kind === 'rate' ? BURST : QUOTA);
    const argv = [CHILD, database.appUrl, file, bucket, most, kind];
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

/** How many more are let through by one that starts now and lives. */
async function rest(bucket: string, rate: Rate): Promise<number> {
  const store = openStore({ url: database.appUrl });
  const limiter = new Limiter({ store: store.limits });
  const limit = { name: 'n', bucket, owner: '', rate };
  let passed = 0;
  for (let refused = 0; refused < 20;) {
    if (limiter.charge([limit], 1).refused === null) {
      passed += 1;
      refused = 0;
    } else {
      await limiter.settled();
      refused += 1;
    }
  }
  await limiter.close();
  await store.close();
  return passed;
}
const sum = (counts: readonly number[]) => counts.reduce((all, count) => all + count, 0);

it('let through together what is stated, and lose at most what they held', async () => {
  for (let round = 0; round < ROUNDS; round += 1) {
    const bucket = `killed-${String(round)}`;
    const before = await killed(bucket);
    expect(before.every((count) => count > 0)).toBe(true);
    const rate = rateOf(60, BURST);
    const lease = leaseOf(rate);
    const all = sum(before) + (await rest(bucket, rate));
    // Each of the three may be two leases beyond; each of the killed took with it a lease and a half at most,
    // one that it held and what a lease under way was to fill it up with.
    expect(all).toBeLessThanOrEqual(BURST + 3 * 2 * lease);
    expect(all).toBeGreaterThanOrEqual(BURST - 2 * 1.5 * lease);
  }
}, 60_000);

it('of a quota let through no more than it and what is stated, however often they are killed and start anew', async () => {
  const rate = quotaOf(QUOTA);
  // What one holds, what it lets through before it has heard, and one request.
  const beyond = leaseOf(rate) + creditOf(rate) + 1;
  for (let round = 0; round < Math.ceil(ROUNDS / 2); round += 1) {
    const bucket = `quota-${String(round)}`;
    let [used, ended] = [0, 0];
    for (let generation = 0; generation < 2; generation += 1) {
      const before = await killed(bucket, 'quota', generation);
      expect(before.every((count) => count > 0)).toBe(true);
      used += sum(before);
      ended += before.length;
    }
    const all = used + (await rest(bucket, rate));
    expect(all).toBeLessThanOrEqual(QUOTA + (ended + 1) * beyond);
    expect(all).toBeGreaterThanOrEqual(QUOTA - ended * 1.5 * leaseOf(rate));
    // Used up for whoever starts now, until the period ends.
    expect(await rest(bucket, rate)).toBeLessThanOrEqual(beyond);
  }
}, 60_000);
