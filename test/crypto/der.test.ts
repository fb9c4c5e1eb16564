/** DER: one byte string per value, and bounded work. */
import { generateKeyPairSync } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';

import {
  checkDer,
  contextTag,
  derBitString,
  derNull,
  derObjectIdentifier,
  DerReader,
  derSequence,
  derSetOf,
  derSmall,
  derUnsigned,
  derValue,
  MAX_DER_LENGTH,
  readDer,
  TAG,
} from '../../src/crypto/der.ts';

const invalid = expect.objectContaining({ code: 'invalid_value' });
const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('what is written', () => {
  it('has the bytes of X.690 and RFC 5280', () => {
    expect(toHex(derObjectIdentifier('1.2.840.113549.1.1.1'))).toBe('06092a864886f70d010101');
    expect(toHex(derObjectIdentifier('2.999.3'))).toBe('0603883703');
    expect(toHex(derUnsigned(hex('0000')))).toBe('020100');
    expect(toHex(derUnsigned(hex('0080')))).toBe('02020080');
    expect(toHex(derUnsigned(hex('7f')))).toBe('02017f');
    expect(toHex(derSmall(255))).toBe('020200ff');
    expect(toHex(derBitString(hex('ab')))).toBe('030200ab');
    expect(toHex(derSetOf(hex('020102'), hex('0101ff'), hex('020101')))).toBe(
      '31090101ff020101020102',
    );
    expect(toHex(derValue(0x04, new Uint8Array(128))).slice(0, 6)).toBe('048180');
    expect(toHex(derValue(0x04, new Uint8Array(256))).slice(0, 8)).toBe('04820100');
  });

  it('is never a wrong object identifier', () => {
    for (const bad of [
      '',
      '1',
      '3.1',
      '1.40',
      '1.2.',
      '1.02',
      '1.2.-3',
      '2.9007199254740992',
      'a',
    ]) {
      expect(() => derObjectIdentifier(bad)).toThrow(RangeError);
    }
  });
});

describe('what is read', () => {
  it('comes back: integers, identifiers, strings', () => {
    const arc = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER - 80 });
    const dotted = fc
      .tuple(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 39 }), fc.array(arc))
      .map(([first, second, rest]) => [first, second, ...rest].join('.'));
    fc.assert(
      fc.property(dotted, fc.uint8Array(), fc.uint8Array({ maxLength: 300 }), (oid, n, bytes) => {
        const der = derSequence(derObjectIdentifier(oid), derUnsigned(n), derBitString(bytes));
        checkDer(der, 'it');
        readDer(der, 'it', (outer) => {
          const reader = outer.enter();
          expect(reader.objectIdentifier()).toBe(oid);
          expect(derUnsigned(reader.unsigned())).toEqual(derUnsigned(n));
          expect(reader.bitString()).toEqual(bytes);
          reader.end();
        });
      }),
    );
  });

  it.each([
    ['an indefinite length', '30 80 00 00'],
    ['a length in long form that fits the short one', '30 81 02 05 00'],
    ['a padded length', '04 82 00 80' + '00'.repeat(128)],
    ['a length of four bytes', '04 84 00 00 00 01 00'],
    ['a length beyond the end', '30 03 05 00'],
    ['a tag of two bytes', '1f 81 01 00'],
    ['a sequence that is not constructed', '10 00'],
    ['a constructed octet string', '24 02 04 00'],
    ['an end of contents', '00 00'],
    ['an empty integer', '02 00'],
    ['a padded integer', '02 02 00 7f'],
    ['a padded negative integer', '02 02 ff 80'],
    ['an empty identifier', '06 00'],
    ['a padded arc', '06 03 2a 80 01'],
    ['an arc that is cut off', '06 02 2a 86'],
    ['an arc beyond 2^53', '06 0a 2a ff ff ff ff ff ff ff ff 7f'],
    ['a boolean of 1', '01 01 01'],
    ['a null with content', '05 01 00'],
    ['an empty bit string', '03 00'],
    ['unused bits that are set', '03 02 01 01'],
    ['unused bits of nothing', '03 01 01'],
    ['8 unused bits', '03 02 08 00'],
    ['a lone tag', '30'],
  ])('is never %s', (_, text) => {
    expect(() => checkDer(hex(text), 'it')).toThrow(invalid);
    expect(() => checkDer(derSequence(hex(text)), 'it')).toThrow(invalid);
  });

  it('is of the type asked for, whole and not negative', () => {
    const read = (text: string, take: (reader: DerReader) => unknown) => () =>
      readDer(hex(text), 'it', take);
    expect(read('02 01 80', (reader) => reader.unsigned())).toThrow(invalid);
    expect(read('02 02 01 00', (reader) => reader.small())).toThrow(invalid);
    expect(read('03 02 04 f0', (reader) => reader.bitString())).toThrow(invalid);
    expect(read('04 00', (reader) => reader.take(TAG.integer))).toThrow(invalid);
    expect(read('05 00 05 00', (reader) => reader.take(TAG.null))).toThrow(invalid);
    expect(read('30 02 05 00', (reader) => reader.enter().end())).toThrow(invalid);
    expect(read('', (reader) => reader.element())).toThrow(invalid);
    expect(read('80 00', (reader) => reader.optional(contextTag(1, 'primitive')))).toThrow(invalid);
  });

  it('is bounded in depth and size', () => {
    let deep = derNull();
    for (let level = 0; level < 16; level += 1) deep = derSequence(deep);
    expect(() => checkDer(deep, 'it')).not.toThrow();
    expect(() => checkDer(derSequence(deep), 'it')).toThrow(invalid);
    expect(() => new DerReader(new Uint8Array(MAX_DER_LENGTH + 1), 'it')).toThrow(invalid);
  });

  it('is bytes of any kind without another error than invalid_value', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        try {
          checkDer(bytes, 'it');
        } catch (error) {
          expect(error).toEqual(invalid);
        }
      }),
      { numRuns: 2000 },
    );
  });

  // Each tree of values has one encoding: writing what was read gives the input or reading failed.
  it('re-encodes to itself after any change of one byte', () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const original = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(0);
    const rewrite = (bytes: Uint8Array): Uint8Array => {
      const reader = new DerReader(bytes, 'it');
      const parts: Uint8Array[] = [];
      while (!reader.atEnd) {
        const { tag, content } = reader.element();
        parts.push(derValue(tag, (tag & 0x20) === 0 ? content : rewrite(content)));
      }
      return Uint8Array.from(Buffer.concat(parts));
    };
    for (let offset = 0; offset < 60; offset += 1) {
      for (let change = 1; change < 256; change += 1) {
        const bytes = Uint8Array.from(original);
        bytes[offset] = (bytes[offset] ?? 0) ^ change;
        let rewritten: Uint8Array;
        try {
          checkDer(bytes, 'it');
          rewritten = rewrite(bytes);
        } catch (error) {
          expect(error).toEqual(invalid);
          continue;
        }
        if (Buffer.compare(rewritten, bytes) !== 0) throw new Error(`byte ${offset}: not the same`);
      }
    }
  });
});
