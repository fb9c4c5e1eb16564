/** Strict base64 (RFC 4648): one text per byte string, so that what is compared is what was sent. */
import { TwofoldError } from '../errors.ts';

export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

/**
 * Standard alphabet, padded, no white space, unused bits zero.
 * @param name the field, for the message
 * @throws TwofoldError invalid_base64
 */
export function decodeBase64(text: string, name: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64');
  // Node's decoder skips what it does not know; only the canonical text comes back the same.
  if (bytes.toString('base64') !== text) {
    bytes.fill(0);
    throw new TwofoldError(
      'invalid_base64',
      `${name} is not canonical base64: use the standard alphabet (A-Z a-z 0-9 + /) with padding ` +
        'and no line breaks, as `base64 -w0` or `openssl base64 -A` write it.',
    );
  }
  return new Uint8Array(bytes);
}

export function encodeBase64Url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url');
}

/** The bytes of canonical, unpadded base64url, or undefined; the caller knows its error code. */
export function decodeBase64Url(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? new Uint8Array(bytes) : undefined;
}
