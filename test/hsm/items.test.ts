import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { chunksOf, itemsOf, joinParts, splitParts } from '../../src/hsm/items.ts';

const part = fc.option(fc.uint8Array({ maxLength: 60 }), { nil: undefined });

describe('byte strings as one', () => {
  it('are taken apart as they were joined', () => {
    fc.assert(
      fc.property(fc.array(part, { maxLength: 40 }), (parts) => {
        const joined = joinParts(parts);
        const split = splitParts(joined).map((each) => each && Uint8Array.from(each));
        expect(split).toEqual(parts);
        // A message would otherwise carry the pool that small buffers share.
        expect(joined.buffer.byteLength).toBe(joined.length);
      }),
    );
  });

  it('are refused when a length is not that of its part', () => {
    const joined = joinParts([Buffer.from('abc'), Buffer.from('d')]);
    for (const length of [1, 3, 6, 8, joined.length - 1]) {
      expect(() => splitParts(joined.subarray(0, length))).toThrow();
    }
    expect(() => itemsOf(splitParts(joined), 3)).toThrow();
  });
});

describe('chunks', () => {
  it('hold every item once and in order, few of them and few bytes, unless one is long', () => {
    const sizes = fc.array(fc.oneof(fc.nat(200), fc.nat(70_000)), { maxLength: 300 });
    fc.assert(
      fc.property(sizes, (items) => {
        const chunks = chunksOf(items, (size) => size);
        expect(chunks.flat()).toEqual(items);
        for (const chunk of chunks) {
          expect(chunk.length).toBeGreaterThan(0);
          expect(chunk.length).toBeLessThanOrEqual(50);
          const bytes = chunk.reduce((sum, size) => sum + size, 0);
          expect(chunk.length === 1 || bytes <= 16_384).toBe(true);
        }
      }),
    );
  });

  it('are even, so that no worker is left with the rest alone', () => {
    const lengths = chunksOf(Array.from({ length: 100 }).fill(50), () => 50).map((c) => c.length);
    expect(lengths).toEqual([50, 50]);
  });
});
