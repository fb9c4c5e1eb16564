/** HKDF (RFC 5869) in the two stages of HPKE, over inputs that are secret in part. */
import { createHmac } from 'node:crypto';

import { concatBytes } from './bytes.ts';
import { wipe } from './secret.ts';
import type { Hash, TwoStageKdf } from './suite.ts';

const KDF_IDS = { 'SHA-256': 0x0001, 'SHA-384': 0x0002, 'SHA-512': 0x0003 } as const;
const LENGTHS = { 'SHA-256': 32, 'SHA-384': 48, 'SHA-512': 64 } as const;

function hmac(hash: Hash, key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
  const mac = createHmac(hash.replace('-', ''), key);
  for (const part of parts) mac.update(part);
  return mac.digest();
}

/** The caller owns and wipes what both functions give. */
export function hkdf(hash: Hash): TwoStageKdf {
  const hashLength = LENGTHS[hash];
  return {
    stages: 2,
    id: KDF_IDS[hash],
    hashLength,
    extract: (salt, parts) => hmac(hash, salt, parts),

    expand(key, info, length) {
      if (length > 255 * hashLength) throw new RangeError('HKDF gives at most 255 blocks');
      const blocks: Uint8Array[] = [];
      try {
        for (let i = 1; (i - 1) * hashLength < length; i += 1) {
          blocks.push(hmac(hash, key, [...blocks.slice(-1), ...info, Uint8Array.of(i)]));
        }
        const all = concatBytes(...blocks);
        const output = all.slice(0, length);
        wipe(all);
        return output;
      } finally {
        wipe(...blocks);
      }
    },
  };
}
