/**
 * P6: kill -9 at a hundred random moments, 25 of them in the first start, with or without the
 * database. TWOFOLD_TEST_SEED repeats a run; KILL_ROUNDS and KILL_STARTS make it shorter or longer.
 */
import { describe, expect, it } from '@jest/globals';

import { killFirstStarts, KillRounds, testSeed } from './kill-driver.ts';

const seed = testSeed();
const rounds = Number(process.env['KILL_ROUNDS'] ?? 75);
const starts = Number(process.env['KILL_STARTS'] ?? 25);

describe('kill -9', () => {
  it('under load loses nothing that was acknowledged and leaves nothing behind', async () => {
    const service = await KillRounds.open(seed);
    try {
      const { wrong, summary } = await service.run(rounds);
      process.stdout.write(`${summary}\n`);
      expect(wrong).toEqual([]);
    } finally {
      expect(await service.close()).toEqual([]);
    }
  }, 3_600_000);

  it('in the first start leaves what the next start completes', async () => {
    const { wrong, summary } = await killFirstStarts(seed, starts, 3_000);
    process.stdout.write(`${summary}\n`);
    expect(wrong).toEqual([]);
  }, 3_600_000);
});
