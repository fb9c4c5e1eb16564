/** A document's size bounds the work that it makes, not only its bytes. */
import { describe, expect, it } from '@jest/globals';

import { TwofoldError } from '../../src/errors.ts';
import { MAX_VALUES, parseJson } from '../../src/http/json.ts';

const code = (text: string): string => {
  try {
    parseJson(Buffer.from(text), new Set());
    return 'none';
  } catch (error) {
    return TwofoldError.from(error).code;
  }
};

describe('the number of values', () => {
  it('is bounded in arrays and in objects', () => {
    expect(code(JSON.stringify(Array.from({ length: MAX_VALUES - 1 }, () => 0)))).toBe('none');
    expect(code(JSON.stringify(Array.from({ length: MAX_VALUES }, () => 0)))).toBe(
      'malformed_json',
    );
    const names = Object.fromEntries(
      Array.from({ length: MAX_VALUES }, (_, i) => [i.toString(16), 1]),
    );
    expect(code(JSON.stringify(names))).toBe('malformed_json');
  });

  it('leaves room for the fullest batch of the contract', () => {
    const encryptionContext = Object.fromEntries(
      Array.from({ length: 16 }, (_, i) => [`k${i}`, 'v']),
    );
    const item = { ref: 'r', plaintext: 'AA==', aad: 'AA==', keyVersion: 1, encryptionContext };
    expect(code(JSON.stringify({ items: Array.from({ length: 1_001 }, () => item) }))).toBe('none');
  });
});
