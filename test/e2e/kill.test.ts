/** P6 in short: kill -9 under load and in the first start; `kill.slow.test.ts` is the long form. */
import { describe, expect, it } from '@jest/globals';

import { killFirstStarts, KillRounds, testSeed } from './kill-driver.ts';

const seed = testSeed();

describe('kill -9', () => {
  it('under load loses nothing that was acknowledged and leaves nothing behind', async () => {
    const rounds = await KillRounds.open(seed);
    try {
      const { wrong, summary } = await rounds.run(2);
      process.stdout.write(`${summary}\n`);
      expect(wrong).toEqual([]);
    } finally {
      expect(await rounds.close()).toEqual([]);
    }
  }, 240_000);

  it('in the first start leaves what the next start completes', async () => {
    const { wrong, summary } = await killFirstStarts(seed, 1, 3_000);
    process.stdout.write(`${summary}\n`);
    expect(wrong).toEqual([]);
  }, 180_000);
});
