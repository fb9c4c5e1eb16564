/**
 * Where the chunks of a sealed file are and what their nonces are. A file has one last chunk, which
 * alone may be shorter than the chunk size and alone carries the mark in its nonce; it is empty only
 * where the whole file is.
 */
import { concatBytes, uint32 } from '../crypto/bytes.ts';
import { ClientError } from './client-error.ts';

export const CHUNK_TAG_LENGTH = 16;
/** The counter of a nonce is a u32: no file has more chunks. */
export const MAX_CHUNKS = 2 ** 32;

export interface ChunkLayout {
  /** Where the first chunk begins: length of fixed header and recipients' area. */
  readonly dataOffset: number;
  readonly chunkSize: number;
  /** 1 to 2^32. */
  readonly chunks: number;
  /** Bytes of plaintext of the whole file. */
  readonly size: number;
}

export interface ChunkPlace {
  readonly last: boolean;
  /** Offset and length of its plaintext. */
  readonly plainOffset: number;
  readonly plainLength: number;
  /** Offset in the sealed file, and length with the tag. */
  readonly sealedOffset: number;
  readonly sealedLength: number;
}

/**
 * The layout of a file that is to be sealed.
 * @throws ClientError invalid_value when it would have more than 2^32 chunks
 */
export function layoutOfPlaintext(
  size: number,
  { dataOffset, chunkSize }: Pick<ChunkLayout, 'dataOffset' | 'chunkSize'>,
): ChunkLayout {
  const chunks = Math.max(1, Math.ceil(size / chunkSize));
  if (chunks > MAX_CHUNKS) {
    throw new ClientError('invalid_value', 'A file of more than 2^32 chunks cannot be sealed.');
  }
  return { dataOffset, chunkSize, chunks, size };
}

/**
 * The layout of a sealed file of this length.
 * @throws ClientError invalid_sealed_file when no file has this length
 */
export function layoutOfSealed(
  length: number,
  { dataOffset, chunkSize }: Pick<ChunkLayout, 'dataOffset' | 'chunkSize'>,
): ChunkLayout {
  const full = chunkSize + CHUNK_TAG_LENGTH;
  const body = length - dataOffset;
  const chunks = Math.ceil(body / full);
  const last = body - (chunks - 1) * full;
  const enough = last > CHUNK_TAG_LENGTH || (last === CHUNK_TAG_LENGTH && chunks === 1);
  if (body < CHUNK_TAG_LENGTH || !enough || chunks > MAX_CHUNKS) {
    throw new ClientError(
      'invalid_sealed_file',
      'The file is cut short or has too much at its end.',
    );
  }
  return { dataOffset, chunkSize, chunks, size: body - chunks * CHUNK_TAG_LENGTH };
}

/** Where chunk `index` (from 0) is. */
export function placeOf({ dataOffset, chunkSize, chunks, size }: ChunkLayout, index: number) {
  const last = index === chunks - 1;
  const plainOffset = index * chunkSize;
  const plainLength = last ? size - plainOffset : chunkSize;
  return {
    last,
    plainOffset,
    plainLength,
    sealedOffset: dataOffset + index * (chunkSize + CHUNK_TAG_LENGTH),
    sealedLength: plainLength + CHUNK_TAG_LENGTH,
  } satisfies ChunkPlace;
}

/** nonce prefix (7) ‖ index u32 ‖ 1 for the last chunk, else 0. */
export function chunkNonce(prefix: Uint8Array, index: number, last: boolean): Uint8Array {
  if (index >= MAX_CHUNKS) throw new RangeError('the chunk counter is a u32');
  return concatBytes(prefix, uint32(index), Uint8Array.of(last ? 1 : 0));
}
