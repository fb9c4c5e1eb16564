/** SHA-3 over several parts, some of them secret. */
import { hash } from 'node:crypto';

import { wipe } from './secret.ts';

/** Longer inputs get a buffer of their own. */
const SHORT_INPUT = 1024;
/** Used again by each call: a buffer of its own costs as much as a hash, and the collector's time. */
const short = new Uint8Array(SHORT_INPUT);

/**
 * One call into OpenSSL is several times cheaper than one per part, so the parts are joined; the
 * joined copy is wiped.
 */
export function hashParts(
  algorithm: 'sha3-256' | 'shake256',
  parts: readonly Uint8Array[],
  outputLength: number,
): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const input = length <= SHORT_INPUT ? short.subarray(0, length) : new Uint8Array(length);
  try {
    let offset = 0;
    for (const part of parts) {
      input.set(part, offset);
      offset += part.length;
    }
    return hash(algorithm, input, { outputEncoding: 'buffer', outputLength });
  } finally {
    wipe(input);
  }
}
