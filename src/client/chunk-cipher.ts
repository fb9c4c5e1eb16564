/** One chunk: AES-256-GCM with the hash of the fixed header as associated data, and its own hash. */
import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';

import { CHUNK_TAG_LENGTH, chunkNonce } from './chunk-layout.ts';
import { ClientError } from './client-error.ts';

const CIPHER = 'aes-256-gcm';

export interface ChunkKeys {
  readonly contentKey: Uint8Array;
  readonly noncePrefix: Uint8Array;
  readonly headerHash: Uint8Array;
}

interface ChunkPosition {
  readonly index: number;
  readonly last: boolean;
}

/** Ciphertext and tag, in the order in which they are stored. */
export function sealChunk(
  { contentKey, noncePrefix, headerHash }: ChunkKeys,
  { index, last }: ChunkPosition,
  plaintext: Uint8Array,
): readonly [Uint8Array, Uint8Array] {
  const nonce = chunkNonce(noncePrefix, index, last);
  const cipher = createCipheriv(CIPHER, contentKey, nonce, { authTagLength: CHUNK_TAG_LENGTH });
  cipher.setAAD(headerHash);
  const ciphertext = cipher.update(plaintext);
  cipher.final();
  return [ciphertext, cipher.getAuthTag()];
}

/**
 * The plaintext of a chunk as it is stored.
 * @throws ClientError content_mismatch when the tag does not verify
 */
export function openChunk(
  { contentKey, noncePrefix, headerHash }: ChunkKeys,
  { index, last }: ChunkPosition,
  sealed: Uint8Array,
): Uint8Array {
  const nonce = chunkNonce(noncePrefix, index, last);
  const decipher = createDecipheriv(CIPHER, contentKey, nonce, { authTagLength: CHUNK_TAG_LENGTH });
  decipher.setAAD(headerHash);
  decipher.setAuthTag(sealed.subarray(-CHUNK_TAG_LENGTH));
  const plaintext = decipher.update(sealed.subarray(0, -CHUNK_TAG_LENGTH));
  try {
    decipher.final();
    return plaintext;
  } catch (cause) {
    // Unauthenticated plaintext must not outlive the failure.
    plaintext.fill(0);
    throw new ClientError('content_mismatch', `Chunk ${index} does not verify.`, cause);
  }
}

/** SHA-256 of a chunk as it is stored, tag included; given whole or in parts. */
export function chunkHash(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}
