import { beforeAll, describe, expect, it } from '@jest/globals';
import { BoundedCache } from '../../src/access/bounded-cache.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import type { SecurityChange } from '../../src/epoch.ts';
import {
  NOW,
  at,
  authenticator,
  codeOf,
  makeKey,
  settings,
  shown,
  sign,
} from './issuer-fixture.ts';
import type { TestKey } from './issuer-fixture.ts';

let key: TestKey;
beforeAll(async () => {
  key = await makeKey('ML-DSA-65', 'k');
});

const change = (epoch: number, scope: SecurityChange['scope']): SecurityChange => ({
  epoch,
  scope,
  namespace: 'default',
  keyId: null,
  keyName: null,
});

const open = async (changes: Parameters<typeof authenticator>[1] = {}) => {
  const clock = { now: NOW };
  const epoch = new SecurityEpoch(1);
  const issuers = [settings([key.jwk], ['ML-DSA-65'])];
  const opened = await authenticator(issuers, { epoch, now: () => clock.now, ...changes });
  return {
    clock,
    epoch,
    opened,
    ask: (token: string) => opened.authenticate(shown(`Bearer ${token}`)),
  };
};

describe('a verified token', () => {
  it('is verified once, also by requests that bring it together', async () => {
    const { ask, opened } = await open();
    const token = await sign(key);
    const together = await Promise.all(Array.from({ length: 50 }, () => ask(token)));
    const later = await ask(token);
    expect(new Set([...together, later]).size).toBe(1);
    expect(opened.cached).toBe(1);
  });

  it('is refused once it has expired, cached or not', async () => {
    const { ask, clock, opened } = await open();
    const token = await sign(key);
    await ask(token);
    clock.now = at(600 + 9.999);
    await ask(token);
    clock.now = at(600 + 10);
    expect(await codeOf(ask(token))).toBe('token_expired');
    expect(opened.cached).toBe(0);
    expect(await codeOf(ask(token))).toBe('token_expired');
  });

  it('is forgotten at a change of access, not at one of a key', async () => {
    const { ask, epoch, opened } = await open();
    const token = await sign(key);
    const first = await ask(token);
    epoch.advance([change(2, 'key')]);
    expect(await ask(token)).toBe(first);
    epoch.advance([change(3, 'access')]);
    expect(opened.cached).toBe(0);
    expect(await ask(token)).not.toBe(first);
  });

  // It is accepted still, for nothing is wrong with it; that its request runs again is the pipeline's
  // part, which reads the epoch before it asks (test/http/order.test.ts).
  it('whose check a change of access overtook is accepted, not remembered and not shared', async () => {
    const { ask, epoch, opened } = await open();
    const token = await sign(key);
    const before = ask(token);
    epoch.advance([change(2, 'access')]);
    const after = ask(token);
    expect(await before).not.toBe(await after);
    expect(opened.cached).toBe(1);
    expect(await ask(token)).toBe(await after);
  });

  it('gives way to others when there are too many', async () => {
    const { ask, opened } = await open({ capacity: 2 });
    const tokens = await Promise.all(['a', 'b', 'c'].map((sub) => sign(key, { sub })));
    for (const token of tokens) await ask(token);
    expect(opened.cached).toBe(2);
    expect(await Promise.all(tokens.map(ask))).toHaveLength(3);
  });
});

describe('a refused token', () => {
  it('is not remembered', async () => {
    const { ask, opened, clock } = await open();
    const token = await sign(key, { nbf: at(60).getTime() / 1000, iat: undefined });
    expect(await codeOf(ask(token))).toBe('token_invalid');
    expect(opened.cached).toBe(0);
    clock.now = at(60);
    expect(await codeOf(ask(token))).toHaveProperty('accepted');
  });

  it('costs bounded work: over the limit new tokens wait, known ones do not', async () => {
    const { ask } = await open({ concurrency: 2 });
    const known = await sign(key);
    await ask(known);
    const tokens = await Promise.all(['a', 'b', 'c', 'd'].map((sub) => sign(key, { sub })));
    const asked = tokens.map((token) => ask(token));
    expect(await codeOf(ask(known))).toHaveProperty('accepted');
    const results = await Promise.allSettled(asked);
    const refused = results.filter((result) => result.status === 'rejected');
    expect(refused.map(({ reason }) => reason as unknown)).toEqual([
      expect.objectContaining({ code: 'rate_limited', retryAfter: 1 }),
      expect.objectContaining({ code: 'rate_limited', retryAfter: 1 }),
    ]);
    for (const token of tokens) expect(await codeOf(ask(token))).toHaveProperty('accepted');
  });
});

describe('a bounded cache', () => {
  it('forgets what was used longest ago', () => {
    const cache = new BoundedCache<string, number>(2);
    cache.set('a', 1);
    cache.set('b', 2);
    expect(cache.get('a')).toBe(1);
    cache.set('c', 3);
    expect([cache.get('a'), cache.get('b'), cache.get('c')]).toEqual([1, undefined, 3]);
    cache.set('c', 4);
    cache.delete('a');
    expect([cache.size, cache.get('c')]).toEqual([1, 4]);
    cache.clear();
    expect(cache.size).toBe(0);
  });
});
