/**
 * EME-OAEP decoding (RFC 8017 section 7.1.2, step 3) with SHA-256, MGF1 with SHA-256 and an empty label,
 * for tokens that give the raw RSA result and leave the padding to the host.
 *
 * Whoever learns in which way a padding is wrong, or whether the first byte is zero, can decrypt with
 * some thousand questions (Manger, CRYPTO 2001). So every block, good or bad, takes the same steps: no
 * branch, index or early exit depends on its bytes until one bit says whether all of it was right.
 */
import { hash } from 'node:crypto';
import { TwofoldError } from '../errors.ts';
import { wipe } from './secret.ts';

const HASH = 'sha256';
const HASH_BYTES = 32;
const COUNTER_BYTES = 4;
/** SHA-256 of the empty label. */
const LABEL_HASH = hash(HASH, '', 'buffer');

/** A zero byte, the seed, the label's hash and the separator. */
export const OAEP_OVERHEAD = 2 * HASH_BYTES + 2;

/**
 * The message in the block of `raw`, in memory of its own; its length shows only when all was right.
 *
 * @param raw   c^d mod n, big-endian, with or without the leading zeros of its `modulusBytes`
 * @throws TwofoldError `decryption_failed`, the same for every failure
 * @throws RangeError for what no RSA operation of that modulus yields
 */
export function decodeOaep(raw: Uint8Array, modulusBytes: number): Uint8Array {
  if (modulusBytes < OAEP_OVERHEAD || raw.length > modulusBytes) {
    throw new RangeError('not the result of an RSA operation with this modulus');
  }
  const block = new Uint8Array(modulusBytes);
  block.set(raw, modulusBytes - raw.length);
  const seed = block.subarray(1, 1 + HASH_BYTES);
  const data = block.subarray(1 + HASH_BYTES);
  try {
    mask(seed, data);
    mask(data, seed);
    const { good, start } = inspect(block[0] ?? 0, data);
    if (good !== 1) throw new TwofoldError('decryption_failed');
    return data.slice(start);
  } finally {
    wipe(block);
  }
}

/** Exclusive or of `target` with MGF1(`source`), in place (appendix B.2.1). */
function mask(target: Uint8Array, source: Uint8Array): void {
  const input = Buffer.alloc(source.length + COUNTER_BYTES);
  input.set(source);
  try {
    for (let counter = 0; counter * HASH_BYTES < target.length; counter += 1) {
      input.writeUInt32BE(counter, source.length);
      const piece = hash(HASH, input, 'buffer');
      const at = counter * HASH_BYTES;
      const end = Math.min(at + HASH_BYTES, target.length);
      for (let index = at; index < end; index += 1) {
        target[index] = (target[index] ?? 0) ^ (piece[index - at] ?? 0);
      }
      wipe(piece);
    }
  } finally {
    wipe(input);
  }
}

/** `good` is 1 when leading byte, label hash and separator are right; only then does `start` mean anything. */
function inspect(
  first: number,
  data: Uint8Array,
): { readonly good: number; readonly start: number } {
  let wrong = first;
  for (let index = 0; index < HASH_BYTES; index += 1) {
    wrong |= (data[index] ?? 0) ^ (LABEL_HASH[index] ?? 0);
  }
  // Ones while the separator is still to come.
  let seeking = -1;
  let start = 0;
  for (let index = HASH_BYTES; index < data.length; index += 1) {
    const byte = data[index] ?? 0;
    const isOne = allIfZero(byte ^ 1);
    const isZero = allIfZero(byte);
    start |= seeking & isOne & (index + 1);
    wrong |= seeking & ~isOne & ~isZero;
    seeking &= isZero;
  }
  wrong |= seeking;
  return { good: allIfZero(wrong) & 1, start };
}

/** All ones for 0, else 0, without a branch; a negation would make a zero -0, which is no small integer. */
function allIfZero(value: number): number {
  return ~((value | (0 - value)) >> 31);
}
