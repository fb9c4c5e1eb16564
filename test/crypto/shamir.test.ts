/** Secret sharing: what the shares make, what they do not, and the field that it stands on. */
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { combine, invert, multiply, split } from '../../src/crypto/shamir.ts';

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

/** The product by schoolbook, as FIPS 197 section 4.2 defines it. */
function product(a: number, b: number): number {
  let sum = 0;
  for (let bit = 0; bit < 8; bit += 1) if (((b >> bit) & 1) === 1) sum ^= a << bit;
  for (let bit = 14; bit >= 8; bit -= 1) if (((sum >> bit) & 1) === 1) sum ^= 0x11b << (bit - 8);
  return sum;
}

describe('the field', () => {
  it('multiplies as FIPS 197 says, for all pairs', () => {
    // FIPS 197 sections 4.2 and 4.2.1.
    expect(multiply(0x57, 0x83)).toBe(0xc1);
    expect(multiply(0x57, 0x13)).toBe(0xfe);
    for (let a = 0; a < 256; a += 1) {
      for (let b = 0; b < 256; b += 1) {
        if (multiply(a, b) !== product(a, b)) throw new Error(`${String(a)} · ${String(b)}`);
      }
    }
  });

  it('has inverses', () => {
    expect(invert(0)).toBe(0);
    for (let a = 1; a < 256; a += 1) expect(multiply(a, invert(a))).toBe(1);
  });
});

describe('shares', () => {
  it('of a known polynomial are its values', () => {
    // 0x42 + 0x57·x: at 1 0x42 ^ 0x57, at 2 0x42 ^ 0xae, at 0x83 0x42 ^ 0xc1.
    const given = { shares: 0x83, threshold: 2 };
    const shares = split(Uint8Array.of(0x42), given, () => Uint8Array.of(0x57));
    expect([0, 1, 0x82].map((at) => shares[at]?.value[0])).toEqual([0x15, 0xec, 0x83]);
  });

  it('make the secret, any of them that are enough', () => {
    const counts = fc.integer({ min: 2, max: 16 }).chain((shares) =>
      fc.record({
        shares: fc.constant(shares),
        threshold: fc.integer({ min: 2, max: shares }),
        order: fc.shuffledSubarray(
          Array.from({ length: shares }, (_, at) => at),
          { minLength: shares },
        ),
      }),
    );
    fc.assert(
      fc.property(bytes(32), counts, (secret, { order, ...given }) => {
        const shares = split(secret, given);
        const some = order.slice(0, given.threshold).flatMap((at) => shares[at] ?? []);
        expect(combine(some)).toEqual(secret);
        expect(combine(shares)).toEqual(secret);
      }),
      { numRuns: 60 },
    );
  });

  it('that are too few fit every secret', () => {
    const [first, second] = split(Uint8Array.of(7), { shares: 3, threshold: 3 });
    if (first === undefined || second === undefined) throw new Error('no shares');
    const secrets = new Set<number>();
    for (let value = 0; value < 256; value += 1) {
      const [made = 0] = combine([first, second, { index: 3, value: Uint8Array.of(value) }]);
      secrets.add(made);
    }
    expect(secrets.size).toBe(256);
  });

  it.each([
    [1, 2],
    [3, 1],
    [256, 2],
    [2, 1.5],
  ])('are not %d of which %d make the secret', (shares, threshold) => {
    expect(() => split(new Uint8Array(32), { shares, threshold })).toThrow(RangeError);
  });

  it('are of one index each', () => {
    const share = { index: 1, value: new Uint8Array(2) };
    expect(() => combine([share, share])).toThrow(RangeError);
    expect(() => combine([])).toThrow(RangeError);
    expect(() => combine([share, { index: 2, value: new Uint8Array(3) }])).toThrow(RangeError);
  });
});
