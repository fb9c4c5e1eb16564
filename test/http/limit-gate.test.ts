/** Whose buckets limits of the service are, from which nobody else can take. */
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { Principal } from '../../src/access/grant.ts';
import { LimitGate } from '../../src/http/limit-gate.ts';
import { NO_LIMITS } from './service.ts';

const gate = new LimitGate({
  // Nothing is counted here.
  limiter: undefined as never,
  governance: {
    limits: {
      inForce: () =>
        Promise.resolve({
          rates: new Map(),
          keys: new Map(),
          periods: new Map(),
          quotas: new Map(),
        } as never),
    },
  },
  keys: { resolve: () => Promise.resolve(null) },
  settings: { ...NO_LIMITS, principalPerMinute: 10, adminPerMinute: 10 },
});

type Who = Pick<Principal, 'issuer' | 'subject' | 'namespace'>;

async function bucketOf(who: Who, namespace: string): Promise<string | undefined> {
  const principal = who as Principal;
  const [limit] = await gate.limitsOf({
    ...{ principal, namespace, key: null },
    ...{ plane: 'use', uses: false },
  });
  return limit?.bucket;
}

describe('the bucket of a principal over the whole service', () => {
  it('is the same wherever it acts', async () => {
    const who = { issuer: 'https://idp.example', subject: 'alice', namespace: null };
    expect(await bucketOf(who, 'a')).toBe(await bucketOf(who, 'b'));
  });

  it('is not that of another, whose issuer a namespace stored under the same name', async () => {
    const who = { issuer: 'https://idp.example', subject: 'alice' };
    const homes = [null, 'a', 'b'];
    const buckets = await Promise.all(
      homes.map((namespace) => bucketOf({ ...who, namespace }, 'a')),
    );
    expect(new Set(buckets).size).toBe(homes.length);
  });

  it('is told apart whatever issuer, subject and namespace are', async () => {
    const word = fc.stringMatching(/^[a1:/]{0,6}$/u);
    const who = fc.record({ issuer: word, subject: word, namespace: word });
    await fc.assert(
      fc.asyncProperty(who, who, async (one, other) => {
        const same = JSON.stringify(one) === JSON.stringify(other);
        expect((await bucketOf(one, 'a')) === (await bucketOf(other, 'a'))).toBe(same);
      }),
      { numRuns: 500 },
    );
  });
});
