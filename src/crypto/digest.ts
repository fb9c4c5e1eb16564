/** SHA-3 over several parts, some of them secret. */
import { hash } from 'node:crypto';

import { concatBytes } from './bytes.ts';
import { wipe } from './secret.ts';

/**
 * One call into OpenSSL is several times cheaper than one per part, so the parts are joined; the
 * joined copy is wiped.
 */
export function hashParts(
  algorithm: 'sha3-256' | 'shake256',
  parts: readonly Uint8Array[],
  outputLength: number,
): Uint8Array {
  const input = concatBytes(...parts);
  try {
    return hash(algorithm, input, { outputEncoding: 'buffer', outputLength });
  } finally {
    wipe(input);
  }
}
