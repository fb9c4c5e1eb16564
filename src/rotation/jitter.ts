/**
 * How much earlier than its interval a key rotates, so that keys made in one minute do not all come
 * due in one minute. A function of the key's id alone: the same rotation is always due at the same
 * time, whoever computes it, and never later than the cryptoperiod ends.
 */

/** At most this share of the interval, and at most these milliseconds. */
export const MAX_SHARE = 0.05;
export const MAX_JITTER_MS = 7 * 86_400_000;

/**
 * In [0, 1): FNV-1a over the id, then the finalizer of MurmurHash3, for ids differ by few bits. It
 * spreads; nothing rests on it being hard to invert.
 */
export function fractionOf(keyId: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < keyId.length; i += 1) {
    hash = Math.imul(hash ^ keyId.charCodeAt(i), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}

/** Milliseconds, for an interval of `lengthMs`. */
export function jitterMs(keyId: string, lengthMs: number): number {
  return Math.floor(fractionOf(keyId) * Math.min(MAX_SHARE * lengthMs, MAX_JITTER_MS));
}
