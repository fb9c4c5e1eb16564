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

/** One thread's buffer for a task; used for one chunk after the other. */
export class ChunkWork {
  readonly #task: ChunkTask;
  readonly #board: ChunkBoard;
  readonly #buffer: Uint8Array;

  constructor(task: ChunkTask, board: ChunkBoard) {
    this.#task = task;
    this.#board = board;
    const { chunkSize, size } = task.layout;
    this.#buffer = new Uint8Array(Math.min(chunkSize, size) + CHUNK_TAG_LENGTH);
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

  #chunk(index: number): Uint8Array {
    const { kind, layout, keys, output } = this.#task;
    const { last, plainOffset, plainLength, sealedOffset, sealedLength } = placeOf(layout, index);
    if (kind === 'seal') {
      const parts = sealChunk(keys, { index, last }, this.#read(plainOffset, plainLength));
      writeFully(output, parts, sealedOffset);
      const hash = chunkHash(...parts);
      release(parts[0]);
      return hash;
    }
    const sealed = this.#read(sealedOffset, sealedLength);
    if (kind === 'open') {
      const plaintext = openChunk(keys, { index, last }, sealed);
      writeFully(output, [plaintext], plainOffset);
      release(plaintext);
    }
    return chunkHash(sealed);
  }

  /** A view of the buffer. */
  #read(position: number, length: number): Uint8Array {
    const buffer = this.#buffer.subarray(0, length);
    if (readFully(this.#task.input, buffer, position)) return buffer;
    throw new ClientError('source_changed');
  }
}

/** Gives the memory back at once: until they are collected, such buffers would pile up in each thread. */
function release({ buffer, length }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === length) buffer.transfer(0);
}
