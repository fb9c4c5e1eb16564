import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import {
  decodeBase64,
  decodeBase64Url,
  encodeBase64,
  encodeBase64Url,
} from '../../src/crypto/base64.ts';

describe('base64', () => {
  it('round-trips as RFC 4648 section 10 has it', () => {
    const rows = ['', 'Zg==', 'Zm8=', 'Zm9v', 'Zm9vYg==', 'Zm9vYmE=', 'Zm9vYmFy'];
    rows.forEach((text, length) => {
      const bytes = new TextEncoder().encode('foobar'.slice(0, length));
      expect(encodeBase64(bytes)).toBe(text);
      expect(decodeBase64(text, 'x')).toEqual(bytes);
      expect(encodeBase64Url(bytes)).toBe(text.replaceAll('=', ''));
      expect(decodeBase64Url(text.replaceAll('=', ''))).toEqual(bytes);
    });
  });

  it.each([
    ['without padding', 'Zg'],
    ['with half the padding', 'Zg='],
    ['with padding inside', 'Zg==Zg=='],
    ['with padding too many', 'Zm9v===='],
    ['with unused bits set', 'Zh=='],
    ['with a line break', 'Zm9v\n'],
    ['with a line break inside', 'Zm9v\nZm9v'],
    ['with a space', ' Zm9v'],
    ['in the other alphabet', '_-8='],
    ['with a character outside', 'Zm9*'],
    ['with a wide character', 'Zm9\u{1f600}'],
    ['with a lone character', 'Z==='],
  ])('refuses text %s, and says how to make it', (_, text) => {
    expect(decodeBase64('Zm9v', 'plaintext')).toHaveLength(3);
    expect(() => decodeBase64(text, 'plaintext')).toThrow(
      expect.objectContaining({
        code: 'invalid_base64',
        detail: expect.stringMatching(/^plaintext .*base64 -w0/),
      }),
    );
  });

  it('never has two texts for the same bytes', () => {
    const texts = fc.string({
      unit: fc.constantFrom('A', 'B', '+', '/', '-', '_', '=', 'z', '0', '9', ' ', '\n'),
      maxLength: 12,
    });
    fc.assert(
      fc.property(texts, (text) => {
        const url = decodeBase64Url(text);
        if (url !== undefined) expect(encodeBase64Url(url)).toBe(text);
        try {
          expect(encodeBase64(decodeBase64(text, 'x'))).toBe(text);
        } catch (error) {
          expect(error).toMatchObject({ code: 'invalid_base64' });
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('encodes a view, not the buffer behind it', () => {
    expect(encodeBase64(Uint8Array.of(0, 102, 0).subarray(1, 2))).toBe('Zg==');
  });
});
