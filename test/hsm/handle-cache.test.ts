import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ulong } from '../../src/hsm/cryptoki.ts';
import { HandleCache } from '../../src/hsm/handle-cache.ts';

const entry = (handle: number, tokenEpoch: number, unwrapped = true) => ({
  handle: ulong(handle),
  spec: { kind: 'aes', bits: 256 } as const,
  check: new Uint8Array(0),
  tokenEpoch,
  unwrapped,
});

function cacheOf(limit: number) {
  const destroyed: number[] = [];
  const cache = new HandleCache(limit, (handle) => {
    destroyed.push(Number(handle.readBigUInt64LE()));
  });
  return { cache, destroyed };
}

describe('handle cache', () => {
  it('never returns or destroys a handle of another epoch', () => {
    const { cache, destroyed } = cacheOf(4);
    cache.set('a', entry(1, 1));
    expect(cache.get('a', 2)).toBeUndefined();
    expect(cache.get('a', 1)).toBeUndefined();
    cache.set('b', entry(2, 1));
    cache.forget('b', 2);
    expect(destroyed).toEqual([]);
  });

  it('destroys what was unwrapped and leaves token objects', () => {
    const { cache, destroyed } = cacheOf(4);
    cache.set('unwrapped', entry(1, 1));
    cache.set('token', entry(2, 1, false));
    for (const id of ['unwrapped', 'token', 'unknown']) cache.forget(id, 1);
    expect(destroyed).toEqual([1]);
  });

  it('replaces an id without leaking its handle', () => {
    const { cache, destroyed } = cacheOf(4);
    cache.set('a', entry(1, 1));
    cache.set('a', entry(2, 1));
    expect(destroyed).toEqual([1]);
    expect(cache.get('a', 1)?.handle).toEqual(ulong(2));
  });

  it('is a bounded least-recently-used map, whatever happens', () => {
    const step = fc.record({ set: fc.boolean(), id: fc.integer({ min: 0, max: 9 }) });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.array(step), (limit, steps) => {
        const { cache, destroyed } = cacheOf(limit);
        let order: { id: string; handle: number }[] = [];
        let next = 1;
        for (const { set, id: number } of steps) {
          const id = String(number);
          const known = order.find((one) => one.id === id);
          if (set) {
            cache.set(id, entry(next, 1));
            order = [...order.filter((one) => one.id !== id), { id, handle: next }].slice(-limit);
            next += 1;
          } else {
            expect(cache.get(id, 1)?.handle).toEqual(
              known === undefined ? undefined : ulong(known.handle),
            );
            if (known !== undefined) order = [...order.filter((one) => one !== known), known];
          }
          expect(cache.size).toBe(order.length);
        }
        const live = new Set(order.map(({ handle }) => handle));
        const all = Array.from({ length: next - 1 }, (_, index) => index + 1);
        expect([...destroyed].sort((a, b) => a - b)).toEqual(all.filter((one) => !live.has(one)));
      }),
    );
  });
});
