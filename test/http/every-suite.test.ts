/** Every suite of the table through REST on SoftHSM, with all that its keys are for; the slow ones have a file of their own. */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { SUITES } from '../../src/crypto/suites.ts';
import { TokenService, isSlow, livesOf } from './suite-life.ts';
import type { Later } from './suite-life.ts';

jest.setTimeout(60_000);

let at: TokenService;
const kept = new Map<string, readonly Later[]>();
beforeAll(async () => {
  at = await TokenService.open();
});
afterAll(() => at.close());

const QUICK = Object.values(SUITES).filter((suite) => !isSlow(suite));

describe('a key of', () => {
  it.each(QUICK.map((suite) => [suite.id, suite] as const))('%s', async (id, suite) => {
    kept.set(id, await livesOf(at, suite));
  });
});

it('every one of them is good after a restart', async () => {
  await at.restart();
  expect(kept.size).toBe(QUICK.length);
  for (const later of [...kept.values()].flat()) await later(at);
});
