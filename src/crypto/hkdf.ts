/** HKDF (RFC 5869) in the two stages of HPKE, over inputs that are secret in part. */
import { hash as oneShot } from 'node:crypto';

import { DIGEST_LENGTHS, nodeHash } from './digests.ts';
import { wipe } from './secret.ts';
import type { Hash, TwoStageKdf } from './suite.ts';

const KDF_IDS = { 'SHA-256': 0x0001, 'SHA-384': 0x0002, 'SHA-512': 0x0003 } as const;
/** Bytes that the hash takes at a time (FIPS 180-4 figure 1). */
const BLOCK_LENGTHS = { 'SHA-256': 64, 'SHA-384': 128, 'SHA-512': 128 } as const;
const [INNER_PAD, OUTER_PAD] = [0x36, 0x5c];

/** Longer messages get a buffer of their own; the fields of a combiner fit. */
const SHORT_MESSAGE = 4_096;

/**
 * The caller owns and wipes what both functions give.
 *
 * An HMAC (FIPS 198-1) is two one-shot hashes here, at two thirds of the price of `createHmac`, whose
 * objects the collector has to finalize. What the inner one takes is put together in a frame that is
 * used again, and wiped after each use:
 *
 *     key ^ ipad ‖ T(i-1) ‖ message ‖ i         block, hash length, any, one byte
 *
 * Where there is no T (extract, and the first block of expand) the padded key stands at the end of the
 * two fields, right before the message, so that a message is laid out once for all blocks.
 */
export function hkdf(hash: Hash): TwoStageKdf {
  const [name, hashLength, blockLength] = [
    nodeHash(hash),
    DIGEST_LENGTHS[hash],
    BLOCK_LENGTHS[hash],
  ];
  const start = blockLength + hashLength;
  const short = new Uint8Array(start + SHORT_MESSAGE);
  const outer = new Uint8Array(start);

  /** A frame with `parts` in it and one byte to spare, and where they end. */
  function frameOf(parts: readonly Uint8Array[]): {
    readonly frame: Uint8Array;
    readonly end: number;
  } {
    let end = start;
    for (const part of parts) end += part.length;
    const frame = end < short.length ? short : new Uint8Array(end + 1);
    let offset = start;
    for (const part of parts) {
      frame.set(part, offset);
      offset += part.length;
    }
    return { frame, end };
  }

  /** HMAC of `frame` up to `end`, before whose message the padded key goes to `at`. */
  function hmac(key: Uint8Array, frame: Uint8Array, at: number, end: number): Uint8Array {
    setKey(frame, at, key, INNER_PAD, blockLength);
    const inner = oneShot(name, frame.subarray(at, end), 'buffer');
    try {
      setKey(outer, 0, key, OUTER_PAD, blockLength);
      outer.set(inner, blockLength);
      return oneShot(name, outer, 'buffer');
    } finally {
      wipe(inner, outer);
    }
  }

  /** What HMAC takes in place of a key that is longer than a block. */
  function withKey<T>(key: Uint8Array, use: (key: Uint8Array) => T): T {
    if (key.length <= blockLength) return use(key);
    const hashed = oneShot(name, key, 'buffer');
    try {
      return use(hashed);
    } finally {
      wipe(hashed);
    }
  }

  function extract(salt: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
    const { frame, end } = frameOf(parts);
    try {
      return hmac(salt, frame, hashLength, end);
    } finally {
      frame.fill(0, 0, end);
    }
  }

  function expand(key: Uint8Array, info: readonly Uint8Array[], length: number): Uint8Array {
    const output = new Uint8Array(length);
    const { frame, end } = frameOf(info);
    try {
      for (let i = 1, at = 0; at < length; i += 1, at += hashLength) {
        frame[end] = i;
        const block = hmac(key, frame, i === 1 ? hashLength : 0, end + 1);
        // As T(i-1) of the next one, behind the place where its key goes.
        frame.set(block, blockLength);
        output.set(at + hashLength > length ? block.subarray(0, length - at) : block, at);
        wipe(block);
      }
      return output;
    } finally {
      frame.fill(0, 0, end + 1);
    }
  }

  return {
    stages: 2,
    id: KDF_IDS[hash],
    hashLength,
    extract: (salt, parts) => withKey(salt, (key) => extract(key, parts)),
    expand(key, info, length) {
      if (length > 255 * hashLength) throw new RangeError('HKDF gives at most 255 blocks');
      return withKey(key, (short) => expand(short, info, length));
    },
  };
}

/** The key's block from `at` on: its bytes and zeros, XOR `pad`. */
function setKey(
  to: Uint8Array,
  at: number,
  key: Uint8Array,
  pad: number,
  blockLength: number,
): void {
  for (let index = 0; index < key.length; index += 1) to[at + index] = (key[index] ?? 0) ^ pad;
  to.fill(pad, at + key.length, at + blockLength);
}
