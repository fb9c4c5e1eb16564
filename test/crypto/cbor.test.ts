import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { decodeCbor, encodeCbor } from '../../src/crypto/cbor.ts';
import { TwofoldError } from '../../src/errors.ts';
import { hex, toHex } from './software-halves.ts';
import type { CborDecoded, CborKey, CborValue } from '../../src/crypto/cbor.ts';

/** Whole integers of the model, in the form in which the decoder gives them. */
const integers = fc
  .oneof(
    fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n - 1n }),
    fc.bigInt({ min: -300n, max: 300n }),
    fc.constantFrom(23n, 24n, 255n, 256n, 65_535n, 65_536n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 53n),
  )
  .map((value) => (Number.isSafeInteger(Number(value)) ? Number(value) : value));
const keys: fc.Arbitrary<CborKey> = fc.oneof(fc.string({ unit: 'grapheme' }), integers);

const { value: values } = fc.letrec<{ value: CborDecoded }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    integers,
    fc.string({ unit: 'grapheme' }),
    fc.uint8Array({ maxLength: 40 }),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 5 }),
    fc.array(fc.tuple(keys, tie('value')), { maxLength: 5 }).map((pairs) => new Map(pairs)),
  ),
}));

/** Maps in their encoded order, so that equal values compare equal. */
function ordered(value: CborDecoded): unknown {
  if (value instanceof Map) {
    const pairs = [...value].map(([key, item]) => [toHex(encodeCbor(key)), ordered(item)] as const);
    return { map: pairs.sort(([a], [b]) => (a < b ? -1 : 1)) };
  }
  return Array.isArray(value) ? value.map(ordered) : value;
}

function refused(bytes: Uint8Array): boolean {
  try {
    decodeCbor(bytes);
    return false;
  } catch (error) {
    return TwofoldError.is(error, 'integrity_failed');
  }
}

describe('deterministic CBOR', () => {
  // RFC 8949 appendix A, the rows that the model has.
  it.each<[string, CborValue]>([
    ['00', 0],
    ['01', 1],
    ['0a', 10],
    ['17', 23],
    ['1818', 24],
    ['1819', 25],
    ['1864', 100],
    ['1903e8', 1000],
    ['1a000f4240', 1_000_000],
    ['1b000000e8d4a51000', 1_000_000_000_000],
    ['1bffffffffffffffff', 18_446_744_073_709_551_615n],
    ['3bffffffffffffffff', -18_446_744_073_709_551_616n],
    ['20', -1],
    ['29', -10],
    ['3863', -100],
    ['3903e7', -1000],
    ['f4', false],
    ['f5', true],
    ['f6', null],
    ['40', hex('')],
    ['4401020304', hex('01020304')],
    ['60', ''],
    ['6161', 'a'],
    ['6449455446', 'IETF'],
    ['62225c', '"\\'],
    ['62c3bc', '\u00fc'],
    ['63e6b0b4', '\u6c34'],
    ['64f0908591', '\u{10151}'],
    ['80', []],
    ['83010203', [1, 2, 3]],
    ['8301820203820405', [1, [2, 3], [4, 5]]],
    ['a0', {}],
    [
      'a201020304',
      new Map([
        [1, 2],
        [3, 4],
      ]),
    ],
    ['a26161016162820203', { a: 1, b: [2, 3] }],
    ['826161a161626163', ['a', { b: 'c' }]],
    ['a56161614161626142616361436164614461656145', { a: 'A', b: 'B', c: 'C', d: 'D', e: 'E' }],
  ])('%s', (expected, value) => {
    expect(toHex(encodeCbor(value))).toBe(expected);
    expect(toHex(encodeCbor(decodeCbor(hex(expected))))).toBe(expected);
  });

  it('sorts map keys by the bytes of their encoding (RFC 8949 section 4.2.1)', () => {
    const map = new Map<CborKey, CborValue>([
      ['aa', 0],
      ['z', 0],
      [-1, 0],
      [100, 0],
      [10, 0],
    ]);
    const decoded = decodeCbor(encodeCbor(map)) as Map<CborKey, CborDecoded>;
    expect([...decoded.keys()]).toEqual([10, 100, -1, 'z', 'aa']);
  });

  it('round-trips every value, and the same value always has the same bytes', () => {
    fc.assert(
      fc.property(values, (value) => {
        const bytes = encodeCbor(value);
        const decoded = decodeCbor(bytes);
        expect(ordered(decoded)).toEqual(ordered(value));
        expect(toHex(encodeCbor(decoded))).toBe(toHex(bytes));
      }),
      { numRuns: 500 },
    );
  });

  it('whatever decodes encodes to the bytes it came from', () => {
    fc.assert(
      fc.property(values, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, at, xor) => {
        const bytes = Uint8Array.from(encodeCbor(value));
        const offset = at % bytes.length;
        bytes[offset] = (bytes[offset] ?? 0) ^ xor;
        if (!refused(bytes)) expect(toHex(encodeCbor(decodeCbor(bytes)))).toBe(toHex(bytes));
      }),
      { numRuns: 1000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 24 }), (bytes) => {
        if (!refused(bytes)) expect(toHex(encodeCbor(decodeCbor(bytes)))).toBe(toHex(bytes));
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    ['nothing', ''],
    ['a second item', '0000'],
    ['23 in two bytes', '1817'],
    ['255 in three bytes', '1900ff'],
    ['65535 in five bytes', '1a0000ffff'],
    ['2^32 - 1 in nine bytes', '1b00000000ffffffff'],
    ['-24 in two bytes', '3817'],
    ['a text length not shortest', '780161'],
    ['a reserved argument', '1c'],
    ['an indefinite byte string', '5f4101ff'],
    ['an indefinite text', '7f6161ff'],
    ['an indefinite array', '9f01ff'],
    ['an indefinite map', 'bf6161 01ff'.replace(' ', '')],
    ['a break', 'ff'],
    ['a tag', 'c001'],
    ['a half float', 'f93c00'],
    ['a float', 'fa3f800000'],
    ['a double', 'fb3ff0000000000000'],
    ['undefined', 'f7'],
    ['a simple value', 'f820'],
    ['a truncated argument', '19ff'],
    ['a truncated string', '4201'],
    ['a string longer than memory', '5bffffffffffffffff'],
    ['a truncated array', '8201'],
    ['an array longer than memory', '9bffffffffffffffff'],
    ['a map without its last value', 'a101'],
    ['map keys out of order', 'a2616200616100'],
    ['a key twice', 'a2616100616100'],
    ['a byte string as key', 'a1414100'],
    ['an array as key', 'a18000'],
    ['invalid UTF-8', '61ff'],
    ['an encoded surrogate', '63eda080'],
    ['too deep nesting', '81'.repeat(70) + '00'],
  ])('refuses %s', (_, bytes) => {
    expect(refused(hex(bytes))).toBe(true);
  });

  it('keeps a byte order mark', () => {
    expect(decodeCbor(encodeCbor('\ufeffa'))).toBe('\ufeffa');
  });

  it('decodes to copies: later changes of the input do not show', () => {
    const bytes = encodeCbor(hex('0102'));
    const decoded = decodeCbor(bytes);
    bytes.fill(0);
    expect(decoded).toEqual(hex('0102'));
  });

  it.each<[string, unknown]>([
    ['a fraction', 1.5],
    ['an unsafe number', 2 ** 53],
    ['NaN', Number.NaN],
    ['an integer over 64 bits', 2n ** 64n],
    ['an integer under 64 bits', -(2n ** 64n) - 1n],
    ['undefined', undefined],
    ['undefined in an object', { a: undefined }],
    ['a lone surrogate', '\ud800'],
    ['a date', new Date(0)],
    ['a function', () => 0],
    ['a symbol', Symbol('x')],
    [
      'a key twice',
      new Map<unknown, number>([
        [1, 1],
        [1n, 2],
      ]),
    ],
    ['a set', new Set([1])],
  ])('does not encode %s', (_, value) => {
    expect(() => encodeCbor(value as CborValue)).toThrow(TypeError);
  });
});
