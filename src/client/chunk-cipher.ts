/** One chunk: AES-256-GCM with the hash of the fixed header as associated data, and its own hash. */
import { createCipheriv, createDecipheriv, hash } from 'node:crypto';

import { CHUNK_TAG_LENGTH, chunkNonce } from './chunk-layout.ts';
import { ClientError } from './client-error.ts';

const CIPHER = 'aes-256-gcm';
/** Pieces that stay in the processor's cache, and whose buffers the allocator uses again. */
const PIECE = 65_536;

export interface ChunkKeys {
  readonly contentKey: Uint8Array;
  readonly noncePrefix: Uint8Array;
  readonly headerHash: Uint8Array;
}

interface ChunkPosition {
  readonly index: number;
  readonly last: boolean;
}

interface Stage {
  update(piece: Uint8Array): Uint8Array;
}

/** `source` through a cipher into `target`, piece by piece. */
function pass(stage: Stage, source: Uint8Array, target: Uint8Array): void {
  for (let offset = 0; offset < source.length; offset += PIECE) {
    target.set(stage.update(source.subarray(offset, offset + PIECE)), offset);
  }
}

/** Writes ciphertext and tag into `sealed`, which is 16 bytes longer than `plaintext`. */
export function sealChunk(
  { contentKey, noncePrefix, headerHash }: ChunkKeys,
  { index, last }: ChunkPosition,
  plaintext: Uint8Array,
  sealed: Uint8Array,
): void {
  const nonce = chunkNonce(noncePrefix, index, last);
  const cipher = createCipheriv(CIPHER, contentKey, nonce, { authTagLength: CHUNK_TAG_LENGTH });
  cipher.setAAD(headerHash);
  pass(cipher, plaintext, sealed);
  cipher.final();
  sealed.set(cipher.getAuthTag(), plaintext.length);
}

/**
 * Writes the plaintext into `plaintext`, which is 16 bytes shorter than `sealed`; zeros on failure.
 * @throws ClientError content_mismatch when the tag does not verify
 */
export function openChunk(
  { contentKey, noncePrefix, headerHash }: ChunkKeys,
  { index, last }: ChunkPosition,
  sealed: Uint8Array,
  plaintext: Uint8Array,
): void {
  const nonce = chunkNonce(noncePrefix, index, last);
  const decipher = createDecipheriv(CIPHER, contentKey, nonce, { authTagLength: CHUNK_TAG_LENGTH });
  decipher.setAAD(headerHash);
  decipher.setAuthTag(sealed.subarray(-CHUNK_TAG_LENGTH));
  pass(decipher, sealed.subarray(0, -CHUNK_TAG_LENGTH), plaintext);
  try {
    decipher.final();
  } catch (cause) {
    // Unauthenticated plaintext must not outlive the failure.
    plaintext.fill(0);
    throw new ClientError('content_mismatch', `Chunk ${index} does not verify.`, cause);
  }
}

/** SHA-256 of a chunk as it is stored, tag included. */
export function chunkHash(sealed: Uint8Array): Uint8Array {
  return hash('sha256', sealed, { outputEncoding: 'buffer' });
}
