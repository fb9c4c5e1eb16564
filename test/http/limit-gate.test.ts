/** Whose buckets limits of the service are, from which nobody else can take. */
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { Principal } from '../../src/access/grant.ts';
import { LimitGate } from '../../src/http/limit-gate.ts';
import { Limiter } from '../../src/limits/limiter.ts';
import { ModelBuckets } from '../limits/model.ts';
import { NO_LIMITS } from './service.ts';

const parts = {
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
};
const gate = new LimitGate({
  ...parts,
  // Nothing is counted here.
  limiter: undefined as never,
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

it('says nothing of the end of a month where there was no room for one more bucket', async () => {
  const store = new ModelBuckets(() => 0);
  store.held = true;
  const limiter = new Limiter({ store, now: () => 0, most: 1 });
  const small = new LimitGate({
    ...parts,
    limiter,
    settings: { ...NO_LIMITS, principalUsesPerMonth: 100 },
  });
  const countOf = (subject: string) => {
    const principal = { issuer: 'https://idp.example', subject, namespace: null } as Principal;
    const asked = { principal, namespace: 'a', key: null, plane: 'use', uses: true } as const;
    return small.count(asked, 'wrap', 1, []);
  };
  // Its first request to the database is under way, so that it cannot be forgotten.
  await countOf('alice');
  await expect(countOf('bob')).rejects.toMatchObject({ code: 'rate_limited', retryAfter: 1 });
});

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
