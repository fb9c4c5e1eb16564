/**
 * P6: kill -9 under load at 75 random moments, with or without the database; `kill-first.slow.test.ts`
 * has first starts. TWOFOLD_TEST_SEED repeats a run; KILL_ROUNDS makes it shorter or longer.
 */
import { expect, it } from '@jest/globals';

import { KillRounds, testSeed } from './kill-driver.ts';

const seed = testSeed();
const rounds = Number(process.env['KILL_ROUNDS'] ?? 75);

it('kill -9 under load loses nothing that was acknowledged and leaves nothing behind', async () => {
  const service = await KillRounds.open(seed);
  try {
    const { wrong, summary } = await service.run(rounds);
    process.stdout.write(`${summary}\n`);
    expect(wrong).toEqual([]);
  } finally {
    expect(await service.close()).toEqual([]);
  }
}, 3_600_000);
