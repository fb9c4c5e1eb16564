/** As every-suite.test.ts, for the suites whose keys or signatures take seconds. */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { SUITES } from '../../src/crypto/suites.ts';
import { expectRequest, isRequestable } from './requested.ts';
import { TokenService, isSlow, livesOf, nameOf } from './suite-life.ts';
import type { Later } from './suite-life.ts';

// The search for the primes of 4096 bits has no bound.
jest.setTimeout(600_000);

let at: TokenService;
const kept: Later[] = [];
beforeAll(async () => {
  at = await TokenService.open();
});
afterAll(() => at.close());

const SLOW = Object.values(SUITES).filter(isSlow);

describe('a key of', () => {
  it.each(SLOW.map((suite) => [suite.id, suite] as const))('%s', async (_id, suite) => {
    kept.push(...(await livesOf(at, suite)));
    if (isRequestable(suite)) await expectRequest(at.service, nameOf(suite), suite);
  });
});

it('other keys are used while the token makes one', async () => {
  await at.post('/v1/admin/keys', { name: 'meanwhile', suite: 'HS256' }, 201);
  const token = { makes: true };
  const json = { name: 'long', suite: 'RSA-PSS-4096-SHA512' };
  const made = at.post('/v1/admin/keys', json, 201).finally(() => (token.makes = false));
  let used = 0;
  for (; token.makes && used < 1000; used += 1) {
    await at.post('/v1/keys/meanwhile/mac', { message: 'bQ==' });
  }
  await made;
  expect(used).toBeGreaterThan(2);
});

it('every one of them is good after a restart', async () => {
  await at.restart();
  expect(kept.length).toBeGreaterThanOrEqual(SLOW.length);
  for (const later of kept) await later(at);
});
