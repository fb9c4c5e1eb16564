/**
 * Strict standard base64 (RFC 4648 section 4) from bytes to bytes.
 *
 * Secrets arrive and leave as base64 inside JSON. A JavaScript string cannot be overwritten, so text
 * that holds a secret stays in buffers: these functions never make a string of it.
 */
const ALPHABET = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/');
const PAD = 0x3d;
const INVALID = 0xff;

const VALUES = new Uint8Array(256).fill(INVALID);
for (const [value, character] of ALPHABET.entries()) VALUES[character] = value;

/** Length of the base64 text of `bytes` bytes. */
export function base64Length(bytes: number): number {
  return Math.ceil(bytes / 3) * 4;
}

/** Writes the padded base64 of `source` into `target` at `offset`; returns the offset behind it. */
export function writeBase64(target: Uint8Array, offset: number, source: Uint8Array): number {
  let at = offset;
  for (let index = 0; index < source.length; index += 3) {
    const a = source[index] ?? 0;
    const b = source[index + 1] ?? 0;
    const c = source[index + 2] ?? 0;
    target[at] = ALPHABET[a >> 2] ?? PAD;
    target[at + 1] = ALPHABET[((a << 4) | (b >> 4)) & 63] ?? PAD;
    target[at + 2] = ALPHABET[((b << 2) | (c >> 6)) & 63] ?? PAD;
    target[at + 3] = ALPHABET[c & 63] ?? PAD;
    at += 4;
  }
  const missing = (3 - (source.length % 3)) % 3;
  target.fill(PAD, at - missing, at);
  return at;
}

function paddingOf(text: Uint8Array): number {
  if (text.at(-1) !== PAD) return 0;
  return text.at(-2) === PAD ? 2 : 1;
}

/** Decodes into `target`; returns false at a character outside the alphabet or unused bits not zero. */
function decodeInto(target: Uint8Array, text: Uint8Array, length: number): boolean {
  let bits = 0;
  let held = 0;
  let at = 0;
  for (let index = 0; index < length; index += 1) {
    const value = VALUES[text[index] ?? 0] ?? INVALID;
    if (value === INVALID) return false;
    bits = ((bits << 6) | value) & 0xffff;
    held += 6;
    if (held >= 8) {
      held -= 8;
      target[at] = (bits >> held) & 0xff;
      at += 1;
    }
  }
  return (bits & ((1 << held) - 1)) === 0;
}

/**
 * The bytes of canonical padded base64, or undefined: a length that is no multiple of four, a
 * character outside the standard alphabet, misplaced padding, or unused bits that are not zero.
 * The caller owns the bytes and wipes them.
 */
export function readBase64(text: Uint8Array): Buffer | undefined {
  if (text.length % 4 !== 0) return undefined;
  const padding = paddingOf(text);
  const bytes = Buffer.allocUnsafe((text.length / 4) * 3 - padding);
  if (decodeInto(bytes, text, text.length - padding)) return bytes;
  bytes.fill(0);
  return undefined;
}
