/** P6: kill -9 in 25 first starts. TWOFOLD_TEST_SEED repeats a run; KILL_STARTS says how many. */
import { expect, it } from '@jest/globals';

import { killFirstStarts, testSeed } from './kill-driver.ts';

const seed = testSeed();
const starts = Number(process.env['KILL_STARTS'] ?? 25);

it('kill -9 in the first start leaves what the next start completes', async () => {
  const { wrong, summary } = await killFirstStarts(seed, starts, 3_000);
  process.stdout.write(`${summary}\n`);
  expect(wrong).toEqual([]);
}, 3_600_000);
