/** Selecting a root again and again: what one worker tries on it must not mislead another. */
import { expect, it } from '@jest/globals';
import { makeToken, ROOT } from './token-fixture.ts';

it('is found once by every worker while the first one attacks copies of it', async () => {
  const fixture = await makeToken();
  const hsm = await fixture.open({ workers: 4 });
  try {
    for (let round = 0; round < 40; round += 1) await hsm.useRoot(ROOT);
    expect(hsm.status().custody).toBe('non-extractable');
  } finally {
    await hsm.close();
    fixture.remove();
  }
}, 60_000);
