/** Encrypted chunks of a file, verified, and into lines of text where there are keys. */
import type { FileHandle } from 'node:fs/promises';

import { chunkHash, openChunk } from '../client/chunk-cipher.ts';
import { CHUNK_TAG_LENGTH } from '../client/chunk-layout.ts';
import { ClientError } from '../client/client-error.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
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

async function chunkAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let at = 0;
  while (at < length) {
    const { bytesRead } = await file.read(buffer, at, length - at, position + at);
    if (bytesRead === 0) throw damaged('cut short');
    at += bytesRead;
  }
  return buffer;
}

async function* chunks(content: Content): AsyncGenerator<{
  readonly index: number;
  readonly last: boolean;
  readonly bytes: Buffer;
}> {
  const { file, length, header } = content;
  const { chunks: count, last } = chunksOf(length);
  const full = CHUNK_SIZE + CHUNK_TAG_LENGTH;
  const hash = contentHash(header);
  for (let index = 0; index < count; index += 1) {
    const isLast = index === count - 1;
    const bytes = await chunkAt(file, HEADER_LENGTH + index * full, isLast ? last : full);
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
  for await (const { index, last, bytes } of chunks(content)) {
    const plaintext = opened(keys, { index, last }, bytes);
    const lines = (rest + decoder.decode(plaintext, { stream: !last })).split('\n');
    plaintext.fill(0);
    rest = lines.pop() ?? '';
    if (lines.length > 0) yield lines;
  }
  if (rest !== '') throw damaged('cut short');
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
