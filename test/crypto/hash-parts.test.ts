/** Hashes of joined parts beside hashes of the whole. */
import { createHash, randomBytes } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';

import { hashParts } from '../../src/crypto/digest.ts';

const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('hashParts', () => {
  it('is the hash of the parts in a row, whatever their length, one call after the other', () => {
    // Around and beyond the buffer that short inputs share, and short again after a long one.
    for (const lengths of [
      [1024],
      [1, 1023],
      [1, 1024],
      [3_000, 9],
      [],
      [0],
      [33, 0, 7],
      [64, 64],
    ]) {
      const parts = lengths.map((length) => randomBytes(length));
      const whole = Buffer.concat(parts);
      const shake = createHash('shake256', { outputLength: 108 }).update(whole).digest('hex');
      expect(toHex(hashParts('shake256', parts, 108))).toBe(shake);
      const sha3 = createHash('sha3-256').update(whole).digest('hex');
      expect(toHex(hashParts('sha3-256', parts, 32))).toBe(sha3);
    }
  });

  it('leaves its parts as they were, and gives each caller bytes of its own', () => {
    const part = Buffer.alloc(40, 7);
    const first = hashParts('sha3-256', [part], 32);
    const before = toHex(first);
    hashParts('sha3-256', [Buffer.alloc(40, 8)], 32);
    expect(toHex(first)).toBe(before);
    expect(part.equals(Buffer.alloc(40, 7))).toBe(true);
  });
});
