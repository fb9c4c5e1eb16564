import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { canonicalContext, MAX_CONTEXT_BYTES } from '../../src/crypto/context.ts';
import { hex, toHex } from './software-halves.ts';
import type { WrapContext } from '../../src/crypto/context.ts';

const invalid = expect.objectContaining({ code: 'invalid_value' });
const encode = (context: WrapContext) => toHex(canonicalContext(context));

const contexts = fc.record({
  encryptionContext: fc.dictionary(
    fc.string({ unit: 'grapheme', minLength: 1, maxLength: 8 }),
    fc.string({ unit: 'grapheme', maxLength: 8 }),
    { maxKeys: 6, noNullPrototype: true },
  ),
  aad: fc.uint8Array({ maxLength: 12 }),
});

/** Written again from the documented rules. */
function decode(bytes: Uint8Array): { pairs: [string, string][]; aad: string } {
  const buffer = Buffer.from(bytes);
  let offset = 0;
  const take = (length: number) => buffer.subarray(offset, (offset += length));
  const text = () => take(take(2).readUInt16BE()).toString('utf8');
  const count = take(2).readUInt16BE();
  const pairs = Array.from({ length: count }, (): [string, string] => [text(), text()]);
  const aad = take(take(4).readUInt32BE()).toString('hex');
  expect(offset).toBe(bytes.length);
  return { pairs, aad };
}

describe('canonical context', () => {
  it('is the documented bytes', () => {
    expect(encode({})).toBe('0000' + '00000000');
    expect(encode({ aad: hex('ff') })).toBe('0000' + '00000001' + 'ff');
    expect(encode({ encryptionContext: { b: '2', a: 'ä' } })).toBe(
      '0002' + '0001' + '61' + '0002' + 'c3a4' + '0001' + '62' + '0001' + '32' + '00000000',
    );
  });

  it('absent and empty are the same', () => {
    expect(encode({ encryptionContext: {}, aad: hex('') })).toBe(encode({}));
  });

  it('sorts by UTF-8 bytes, not by UTF-16 units', () => {
    // U+FFFD is EF BF BD and U+10000 is F0 90 80 80, but its first UTF-16 unit is D800.
    const { pairs } = decode(
      canonicalContext({ encryptionContext: { '\u{10000}': '2', '\u{fffd}': '1' } }),
    );
    expect(pairs.map(([, value]) => value)).toEqual(['1', '2']);
  });

  it('sorts names as bytes: a prefix first, and 100 after 97', () => {
    const names = ['d', 'ab', 'a', 'B', '~', '9'];
    const encryptionContext = Object.fromEntries(names.map((name) => [name, '']));
    const { pairs } = decode(canonicalContext({ encryptionContext }));
    expect(pairs.map(([name]) => name)).toEqual(['9', 'B', 'a', 'ab', 'd', '~']);
  });

  it('does not depend on the order of the pairs', () => {
    fc.assert(
      fc.property(contexts, ({ encryptionContext, aad }) => {
        const reversed = Object.fromEntries(Object.entries(encryptionContext).reverse());
        expect(encode({ encryptionContext: reversed, aad })).toBe(
          encode({ encryptionContext, aad }),
        );
      }),
    );
  });

  it('can be read back, so two contexts never share an encoding', () => {
    fc.assert(
      fc.property(contexts, (context) => {
        const { pairs, aad } = decode(canonicalContext(context));
        expect(Object.fromEntries(pairs)).toEqual(context.encryptionContext);
        expect(aad).toBe(toHex(context.aad));
      }),
    );
    fc.assert(
      fc.property(contexts, contexts, (a, b) => {
        const same = JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
        expect(encode(a) === encode(b)).toBe(same);
      }),
    );
  });

  it('keeps names like prototype members apart', () => {
    const context = JSON.parse('{"__proto__":"x","constructor":"y"}') as Record<string, string>;
    expect(decode(canonicalContext({ encryptionContext: context })).pairs).toEqual([
      ['__proto__', 'x'],
      ['constructor', 'y'],
    ]);
  });

  it('does not normalise', () => {
    expect(encode({ encryptionContext: { '\u00e4': '' } })).not.toBe(
      encode({ encryptionContext: { 'a\u0308': '' } }),
    );
  });

  it('takes 16 pairs and 4096 bytes and no more', () => {
    const pairs = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${String(i)}`, '']));
    expect(() => encode({ encryptionContext: pairs(16) })).not.toThrow();
    expect(() => encode({ encryptionContext: pairs(17) })).toThrow(invalid);
    const long = (bytes: number) => ({ a: 'ä'.repeat((bytes - 1) / 2) });
    expect(() => encode({ encryptionContext: long(MAX_CONTEXT_BYTES - 1) })).not.toThrow();
    expect(() => encode({ encryptionContext: long(MAX_CONTEXT_BYTES + 1) })).toThrow(invalid);
  });

  it('refuses an empty name and lone surrogates, which have no UTF-8 form of their own', () => {
    for (const encryptionContext of [{ '': 'x' }, { '\ud800': 'x' }, { x: 'a\udc00b' }]) {
      expect(() => encode({ encryptionContext })).toThrow(invalid);
    }
  });
});

function sorted({ encryptionContext, aad }: { encryptionContext: object; aad: Uint8Array }) {
  return [Object.entries(encryptionContext).sort(), toHex(aad)];
}
