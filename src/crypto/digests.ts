/** SHA-2 over messages, by the standards' names. */
import { createHash } from 'node:crypto';

import type { Hash } from './suite.ts';

export const DIGEST_LENGTHS: Readonly<Record<Hash, number>> = {
  'SHA-256': 32,
  'SHA-384': 48,
  'SHA-512': 64,
};

/** node:crypto's name. */
export function nodeHash(hash: Hash): string {
  return hash.replace('-', '').toLowerCase();
}

export function digestBytes(hash: Hash, message: Uint8Array): Uint8Array {
  return createHash(nodeHash(hash)).update(message).digest();
}
