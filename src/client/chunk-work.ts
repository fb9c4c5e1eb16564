/**
 * The work on a file's chunks, as one thread does its share of it: claim the next chunk, read it,
 * seal or open it, hash it, write it at its place.
 *
 * Threads share files by descriptor and everything else by shared memory.
 */
import { chunkHash, openChunk, sealChunk } from './chunk-cipher.ts';
import { CHUNK_TAG_LENGTH, placeOf } from './chunk-layout.ts';
import { ClientError } from './client-error.ts';
import { readFully, writeFully } from './file-bytes.ts';
import type { ChunkKeys } from './chunk-cipher.ts';
import type { ChunkLayout } from './chunk-layout.ts';

export const HASH_LENGTH = 32;
/** Indices into `control`. */
export const NEXT = 0;
export const STOP = 1;

export interface ChunkTask {
  /** `hash` reads a sealed file without its key, and writes nothing. */
  readonly kind: 'seal' | 'open' | 'hash';
  readonly layout: ChunkLayout;
  /** Zeros where nothing is sealed or opened. */
  readonly keys: ChunkKeys;
  readonly input: number;
  /** Not used by `hash`. */
  readonly output: number;
}

/** What the threads of a task share. */
export interface ChunkBoard {
  /** NEXT: chunks of this span claimed so far. STOP: not 0 once nobody shall claim more. */
  readonly control: Int32Array<SharedArrayBuffer>;
  /** Hashes of the span's chunks, in order. */
  readonly hashes: Uint8Array<SharedArrayBuffer>;
}

/** Chunks `from` to `to - 1`. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** One thread's buffers for a task; used for one chunk after the other. */
export class ChunkWork {
  readonly #task: ChunkTask;
  readonly #board: ChunkBoard;
  readonly #plaintext: Uint8Array;
  readonly #sealed: Uint8Array;

  constructor(task: ChunkTask, board: ChunkBoard) {
    const length = Math.min(task.layout.chunkSize, task.layout.size);
    this.#task = task;
    this.#board = board;
    this.#plaintext = new Uint8Array(task.kind === 'hash' ? 0 : length);
    this.#sealed = new Uint8Array(length + CHUNK_TAG_LENGTH);
  }

  /**
   * Claims chunks until all of the span are claimed.
   * @throws ClientError source_changed, content_mismatch; what reading and writing throws
   */
  share({ from, to }: Span): void {
    const { control, hashes } = this.#board;
    for (;;) {
      if (Atomics.load(control, STOP) !== 0) return;
      const claimed = Atomics.add(control, NEXT, 1);
      if (claimed >= to - from) return;
      hashes.set(this.#chunk(from + claimed), claimed * HASH_LENGTH);
    }
  }

  wipe(): void {
    this.#plaintext.fill(0);
  }

  #chunk(index: number): Uint8Array {
    const { kind, layout, keys, input, output } = this.#task;
    const { last, plainOffset, plainLength, sealedOffset, sealedLength } = placeOf(layout, index);
    const plaintext = this.#plaintext.subarray(0, plainLength);
    const sealed = this.#sealed.subarray(0, sealedLength);
    if (kind === 'seal') {
      this.#read(input, plaintext, plainOffset);
      sealChunk(keys, { index, last }, plaintext, sealed);
      writeFully(output, sealed, sealedOffset);
      return chunkHash(sealed);
    }
    this.#read(input, sealed, sealedOffset);
    if (kind === 'open') {
      openChunk(keys, { index, last }, sealed, plaintext);
      writeFully(output, plaintext, plainOffset);
    }
    return chunkHash(sealed);
  }

  #read(fd: number, buffer: Uint8Array, position: number): void {
    if (!readFully(fd, buffer, position)) throw new ClientError('source_changed');
  }
}
