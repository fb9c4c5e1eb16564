/** HKDF (RFC 5869) in the two stages of HPKE, over inputs that are secret in part. */
import { hash as oneShot } from 'node:crypto';

import { DIGEST_LENGTHS, nodeHash } from './digests.ts';
import { wipe } from './secret.ts';
import type { Hash, TwoStageKdf } from './suite.ts';

const KDF_IDS = { 'SHA-256': 0x0001, 'SHA-384': 0x0002, 'SHA-512': 0x0003 } as const;
/** Bytes that the hash takes at a time (FIPS 180-4 figure 1). */
const BLOCK_LENGTHS = { 'SHA-256': 64, 'SHA-384': 128, 'SHA-512': 128 } as const;
const [INNER_PAD, OUTER_PAD] = [0x36, 0x5c];

/** Longer messages (the fields of a combiner) get a buffer of their own. */
const SHORT_MESSAGE = 512;

const NOTHING = new Uint8Array(0);

type Hmac = (key: Uint8Array, parts: readonly Uint8Array[]) => Uint8Array;

/**
 * HMAC (FIPS 198-1) of two one-shot hashes, at two thirds of the price of `createHmac`, whose objects
 * the collector has to finalize. The inputs of both are put together in place and wiped afterwards.
 */
function hmacOf(hash: Hash): Hmac {
  const [name, length, blockLength] = [nodeHash(hash), DIGEST_LENGTHS[hash], BLOCK_LENGTHS[hash]];
  const innerPad = new Uint8Array(blockLength).fill(INNER_PAD);
  const outerPad = new Uint8Array(blockLength).fill(OUTER_PAD);
  const short = new Uint8Array(blockLength + SHORT_MESSAGE);
  const outer = new Uint8Array(blockLength + length);

  function innerDigest(key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
    let end = blockLength;
    for (const part of parts) end += part.length;
    const inner = end <= short.length ? short.subarray(0, end) : new Uint8Array(end);
    try {
      setKey(inner, innerPad, key);
      let offset = blockLength;
      for (const part of parts) {
        inner.set(part, offset);
        offset += part.length;
      }
      return oneShot(name, inner, 'buffer');
    } finally {
      inner.fill(0);
    }
  }

  function hmacOfLong(key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
    const hashed = oneShot(name, key, 'buffer');
    try {
      return hmac(hashed, parts);
    } finally {
      wipe(hashed);
    }
  }

  function hmac(key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
    if (key.length > blockLength) return hmacOfLong(key, parts);
    const inner = innerDigest(key, parts);
    try {
      setKey(outer, outerPad, key);
      outer.set(inner, blockLength);
      return oneShot(name, outer, 'buffer');
    } finally {
      wipe(inner, outer);
    }
  }

  return hmac;
}

/** The key's block, padded with zeros to the length of `pad`, XOR `pad`. */
function setKey(to: Uint8Array, pad: Uint8Array, key: Uint8Array): void {
  to.set(pad);
  for (let at = 0; at < key.length; at += 1) to[at] = (key[at] ?? 0) ^ (pad[at] ?? 0);
}

/** The caller owns and wipes what both functions give. */
export function hkdf(hash: Hash): TwoStageKdf {
  const hashLength = DIGEST_LENGTHS[hash];
  const hmac = hmacOf(hash);
  return {
    stages: 2,
    id: KDF_IDS[hash],
    hashLength,
    extract: hmac,

    expand(key, info, length) {
      if (length > 255 * hashLength) throw new RangeError('HKDF gives at most 255 blocks');
      const output = new Uint8Array(length);
      let last: Uint8Array = NOTHING;
      for (let i = 1, at = 0; at < length; i += 1, at += hashLength) {
        const block = hmac(key, [last, ...info, Uint8Array.of(i)]);
        output.set(at + hashLength > length ? block.subarray(0, length - at) : block, at);
        wipe(last);
        last = block;
      }
      wipe(last);
      return output;
    },
  };
}
