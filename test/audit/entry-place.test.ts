/** The place of an entry, read from bytes of any version, and from what is none. */
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { NO_PREVIOUS } from '../../src/audit/entry.ts';
import { placeOf } from '../../src/audit/entry-place.ts';
import { encodeCbor } from '../../src/crypto/cbor.ts';

const place = fc.record({
  version: fc.integer({ min: 1, max: 300 }),
  lane: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
  n: fc.oneof(fc.nat(), fc.maxSafeNat()),
  previous: fc.uint8Array({ minLength: 32, maxLength: 32 }),
});
const encoded = (
  {
    version,
    lane,
    n,
    previous,
  }: { version: number; lane: number; n: number; previous: Uint8Array },
  more: number,
): Uint8Array => encodeCbor([version, lane, n, previous, ...Array.from({ length: more }, () => 1)]);

describe('the place of an entry', () => {
  it('is read whatever follows it, and however long the entry is', () => {
    fc.assert(
      fc.property(place, fc.integer({ min: 0, max: 300 }), (of, more) => {
        const found = placeOf(encoded(of, more));
        expect(found).toEqual({ ...of, previous: expect.anything() });
        expect(Buffer.from(found?.previous ?? [])).toEqual(Buffer.from(of.previous));
      }),
    );
  });

  it('is not read from a part of one, and from nothing else', () => {
    const whole = encoded({ version: 2, lane: 70_000, n: 2 ** 40, previous: NO_PREVIOUS }, 30);
    for (let end = 0; end < whole.length - 30; end += 1) {
      expect(placeOf(whole.subarray(0, end))).toBeNull();
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        const found = placeOf(bytes);
        if (found === null) return;
        const { version, lane, n, previous } = found;
        const again = encodeCbor([version, lane, n, previous]).subarray(1);
        const header = bytes[0] === 0x98 ? 2 : bytes[0] === 0x99 ? 3 : 1;
        expect(Buffer.from(bytes.subarray(header, header + again.length))).toEqual(
          Buffer.from(again),
        );
      }),
    );
  });

  it('refuses integers that are not in their shortest form', () => {
    const long = Buffer.from(`9821021805015820${'00'.repeat(32)}`, 'hex');
    expect(placeOf(long)).toBeNull();
  });
});
