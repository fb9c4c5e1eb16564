/** Base32 for people (Crockford): no I, L, O or U is written; what looks like a 0 or 1 is read as one. */
import { TwofoldError } from '../errors.ts';

const DIGITS = '0123456789abcdefghjkmnpqrstvwxyz';
const READ_AS: Readonly<Record<string, string>> = { o: '0', i: '1', l: '1' };
const GROUP = 4;

/** Groups of four, unpadded; the last digit's spare bits are zero. */
export function encodeBase32(bytes: Uint8Array): string {
  let [digits, held, bits] = ['', 0, 0];
  for (const byte of bytes) {
    held = (held << 8) | byte;
    for (bits += 8; bits >= 5; bits -= 5) digits += DIGITS.charAt((held >> (bits - 5)) & 31);
    held &= (1 << bits) - 1;
  }
  if (bits > 0) digits += DIGITS.charAt((held << (5 - bits)) & 31);
  return (digits.match(new RegExp(`.{1,${String(GROUP)}}`, 'gu')) ?? []).join(' ');
}

/**
 * Case, white space and hyphens mean nothing.
 * @throws TwofoldError invalid_value
 */
export function decodeBase32(text: string): Uint8Array {
  const letters = text.toLowerCase().replaceAll(/[\s-]/gu, '');
  const bytes = new Uint8Array(Math.floor((letters.length * 5) / 8));
  let [held, bits, at] = [0, 0, 0];
  for (const letter of letters) {
    const digit = DIGITS.indexOf(READ_AS[letter] ?? letter);
    if (digit < 0) throw new TwofoldError('invalid_value', 'a character is no digit of base32');
    held = (held << 5) | digit;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes[at] = held >> bits;
    at += 1;
    held &= (1 << bits) - 1;
  }
  if (bits >= 5 || held !== 0) throw new TwofoldError('invalid_value', 'its end is cut short');
  return bytes;
}
