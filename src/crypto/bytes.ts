/** Byte strings: joining, big-endian integers, comparison. */
import { timingSafeEqual } from 'node:crypto';

/** One new buffer; the parts stay their owners'. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

/** Big-endian, exactly two bytes (I2OSP(n, 2)). */
export function uint16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value & 0xff);
}

/** Big-endian, exactly four bytes. */
export function uint32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

/** The length of `bytes` as u16; the caller knows that it is at most 65,535. */
export function lengthPrefix(bytes: Uint8Array): Uint8Array {
  if (bytes.length > 0xffff) throw new RangeError('a u16 length prefix holds at most 65535');
  return uint16(bytes.length);
}

/** `bytes` behind its `lengthPrefix`. */
export function lengthPrefixed(bytes: Uint8Array): Uint8Array {
  return concatBytes(lengthPrefix(bytes), bytes);
}

/** Constant time in the content; the length is not secret. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

const encoder = new TextEncoder();

export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}
