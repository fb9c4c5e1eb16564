/**
 * Encrypted chunks of a file, verified, and into lines of text where there are keys. Memory of a chunk is
 * given back with it and does not wait for a collection, so that a backup of any size is read in that of a few.
 */
import type { FileHandle } from 'node:fs/promises';

import { chunkHash, openChunk } from '../client/chunk-cipher.ts';
import { CHUNK_TAG_LENGTH } from '../client/chunk-layout.ts';
import { ClientError } from '../client/client-error.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import { giveBack } from './give-back.ts';
import { CHUNK_SIZE, HEADER_LENGTH, chunksOf, contentHash } from './content.ts';
import type { ContentKeys } from './content.ts';

export interface Content {
  readonly file: FileHandle;
  readonly length: number;
  readonly header: Uint8Array;
  /** As the manifest has it. */
  readonly hash: Uint8Array;
}

const damaged = (what: string) => new TwofoldError('integrity_failed', `The content is ${what}.`);

/** Fills all of it. */
async function readAt(file: FileHandle, position: number, into: Buffer): Promise<void> {
  let at = 0;
  while (at < into.length) {
    const { bytesRead } = await file.read(into, at, into.length - at, position + at);
    if (bytesRead === 0) throw damaged('cut short');
    at += bytesRead;
  }
}

/** The bytes are there until the next chunk is asked for: one buffer serves all. */
async function* chunks(content: Content): AsyncGenerator<{
  readonly index: number;
  readonly last: boolean;
  readonly bytes: Buffer;
}> {
  const { file, length, header } = content;
  const { chunks: count, last } = chunksOf(length);
  const full = CHUNK_SIZE + CHUNK_TAG_LENGTH;
  const hash = contentHash(header);
  const buffer = Buffer.alloc(full);
  for (let index = 0; index < count; index += 1) {
    const isLast = index === count - 1;
    const bytes = buffer.subarray(0, isLast ? last : full);
    await readAt(file, HEADER_LENGTH + index * full, bytes);
    hash.update(chunkHash(bytes));
    // Before anything is made of the last one, all of it has been seen to be whole.
    if (isLast && !equalBytes(hash.digest(), content.hash)) throw damaged('not what was written');
    yield { index, last: isLast, bytes };
  }
}

/** @throws TwofoldError integrity_failed for content that is not what was written */
export async function verifyChunks(content: Content): Promise<void> {
  const reading = chunks(content);
  while ((await reading.next()).done !== true);
}

/**
 * Lines of text, some thousand at a time. What they say is known to be whole once all are read, and not
 * before: the hash stands over everything.
 * @throws TwofoldError integrity_failed
 */
export async function* readLines(
  content: Content,
  keys: ContentKeys,
): AsyncGenerator<readonly string[]> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let rest = '';
  for await (const { last, plaintext } of openChunks(content, keys)) {
    const lines = (rest + decoder.decode(plaintext, { stream: !last })).split('\n');
    rest = lines.pop() ?? '';
    if (lines.length > 0) yield lines;
  }
  if (rest !== '') throw damaged('cut short');
}

/**
 * Plaintext of each chunk, which is there until the next is asked for.
 * @throws TwofoldError integrity_failed
 */
export async function* openChunks(
  content: Content,
  keys: ContentKeys,
): AsyncGenerator<{ readonly last: boolean; readonly plaintext: Uint8Array }> {
  for await (const { index, last, bytes } of chunks(content)) {
    const plaintext = opened(keys, { index, last }, bytes);
    try {
      yield { last, plaintext };
    } finally {
      plaintext.fill(0);
      giveBack(plaintext);
    }
  }
}

function opened(
  keys: ContentKeys,
  place: { readonly index: number; readonly last: boolean },
  bytes: Buffer,
): Uint8Array {
  try {
    return openChunk(keys, place, bytes);
  } catch (cause) {
    if (!(cause instanceof ClientError)) throw cause;
    throw new TwofoldError('integrity_failed', 'A chunk of the content does not open.', { cause });
  }
}
