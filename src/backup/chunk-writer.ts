/** Text into encrypted chunks, appended to a file; holds two chunks at most, however long the text is. */
import type { FileHandle } from 'node:fs/promises';

import { chunkHash, sealChunk } from '../client/chunk-cipher.ts';
import { CHUNK_SIZE, contentHash } from './content.ts';
import type { ContentKeys } from './content.ts';
import { giveBack } from './give-back.ts';

export class ChunkWriter {
  readonly #file: FileHandle;
  readonly #keys: ContentKeys;
  readonly #hash: ReturnType<typeof contentHash>;
  readonly #buffer = Buffer.alloc(CHUNK_SIZE);
  readonly #encoder = new TextEncoder();
  #filled = 0;
  #index = 0;
  #length: number;

  private constructor(file: FileHandle, header: Uint8Array, keys: ContentKeys) {
    this.#file = file;
    this.#keys = keys;
    this.#hash = contentHash(header);
    this.#length = header.length;
  }

  static async begin(
    file: FileHandle,
    header: Uint8Array,
    keys: ContentKeys,
  ): Promise<ChunkWriter> {
    await file.write(header);
    return new ChunkWriter(file, header, keys);
  }

  /** A line: its mark, and text without a line break. */
  async line(mark: string, text: string): Promise<void> {
    // In parts: joined they would be a copy that waits for a collection.
    for (const part of [mark, text, '\n']) {
      const { read, written } = this.#encoder.encodeInto(part, this.#buffer.subarray(this.#filled));
      this.#filled += written;
      if (read < part.length) await this.#writeOver(part.slice(read));
    }
  }

  /** What begins in a chunk with no room for it. */
  async #writeOver(text: string): Promise<void> {
    const bytes = Buffer.from(text, 'utf8');
    let at = 0;
    while (at < bytes.length) {
      // A full chunk waits until there is more: only the last may be marked so.
      if (this.#filled === CHUNK_SIZE) await this.#seal(false);
      const taken = bytes.copy(this.#buffer, this.#filled, at);
      this.#filled += taken;
      at += taken;
    }
    bytes.fill(0);
  }

  /** Seals what is left. */
  async end(): Promise<{ readonly length: number; readonly hash: Uint8Array }> {
    await this.#seal(true);
    this.#buffer.fill(0);
    return { length: this.#length, hash: Uint8Array.from(this.#hash.digest()) };
  }

  async #seal(last: boolean): Promise<void> {
    const plaintext = this.#buffer.subarray(0, this.#filled);
    const parts = sealChunk(this.#keys, { index: this.#index, last }, plaintext);
    this.#hash.update(chunkHash(...parts));
    for (const part of parts) {
      let at = 0;
      while (at < part.length) {
        const { bytesWritten } = await this.#file.write(part, at);
        at += bytesWritten;
      }
      this.#length += part.length;
      giveBack(part);
    }
    this.#index += 1;
    this.#filled = 0;
  }
}
