/**
 * The threads that work on one file, and the hash over what they do.
 *
 * Hashing costs more than encrypting, and both can be done to several chunks at once; so a file of any
 * length is worked on in spans, whose chunks the threads claim one by one. Memory does not grow with
 * the file.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

import { utf8 } from '../crypto/bytes.ts';
import { NAME } from '../name.ts';
import { ChunkWork, HASH_LENGTH, NEXT, STOP } from './chunk-work.ts';
import { ClientError, fileFailure, throwIfAborted } from './client-error.ts';
import type { ChunkBoard, ChunkTask, Span } from './chunk-work.ts';
import type { ClientCode } from './client-error.ts';

/** How a thread's share of a span ended. */
export interface ShareEnd {
  readonly failed?: {
    readonly client?: ClientCode;
    readonly message: string;
    readonly code?: string | undefined;
    readonly syscall?: string | undefined;
  };
}

const ENTRY = new URL('./chunk-worker.ts', import.meta.url);
const MAX_THREADS = 4;
/** Of chunks that all threads together work on; a thread takes some four times its chunk. */
const CHUNKS_BYTES = 6_291_456;
const SPAN = 1_024;
/** Threads take longer to start than so few bytes take to work on. */
const ALONE_BYTES = 8_388_608;
/** Their buffers lie outside V8. */
const HEAP = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 32 };

interface Crew {
  /** Every thread has ended its share when this settles, also when it rejects. */
  work(span: Span): Promise<void>;
  close(): Promise<void>;
}

class Alone implements Crew {
  readonly #work: ChunkWork;

  constructor(task: ChunkTask, board: ChunkBoard) {
    this.#work = new ChunkWork(task, board);
  }

  work(span: Span): Promise<void> {
    return new Promise((resolve) => {
      this.#work.share(span);
      resolve();
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function thrown({ client, message, code, syscall }: NonNullable<ShareEnd['failed']>): unknown {
  if (client !== undefined) return new ClientError(client, message);
  return Object.assign(new Error(message), syscall === undefined ? {} : { code, syscall });
}

/** How many threads keep the memory of a process below 200 MB, whatever the size of a chunk. */
export function threadsFor(chunkSize: number, processors: number): number {
  const room = Math.max(1, Math.floor(CHUNKS_BYTES / chunkSize));
  return Math.min(processors, MAX_THREADS, room);
}

class Threads implements Crew {
  readonly #board: ChunkBoard;
  readonly #workers: readonly Worker[];

  constructor(task: ChunkTask, board: ChunkBoard) {
    const number = threadsFor(task.layout.chunkSize, availableParallelism());
    const options = { workerData: { task, board }, stdin: false, resourceLimits: HEAP };
    this.#board = board;
    this.#workers = Array.from({ length: number }, () => new Worker(ENTRY, options));
  }

  async work(span: Span): Promise<void> {
    const shares = await Promise.allSettled(
      this.#workers.map((worker) => this.#share(worker, span)),
    );
    const failed = shares.find((share) => share.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  async close(): Promise<void> {
    await Promise.all(
      this.#workers.map(async (worker) => {
        if (worker.threadId === -1) return;
        const ended = once(worker, 'exit');
        worker.postMessage(null);
        await ended;
      }),
    );
  }

  /** One that fails stops the others: their work would be for nothing. */
  async #share(worker: Worker, span: Span): Promise<void> {
    try {
      const { failed } = await answerOf(worker, span);
      if (failed !== undefined) throw thrown(failed);
    } catch (error) {
      Atomics.store(this.#board.control, STOP, 1);
      throw error;
    }
  }
}

const asError = (error: unknown): Error =>
  error instanceof Error ? error : new Error(String(error));

/** The answer to a span, or why the thread ended without one. */
function answerOf(worker: Worker, span: Span): Promise<ShareEnd> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      for (const event of ['message', 'error', 'exit']) worker.removeAllListeners(event);
      act();
    };
    worker.once('message', (end: ShareEnd) => settle(() => resolve(end)));
    worker.once('error', (error) => settle(() => reject(asError(error))));
    worker.once('exit', () => settle(() => reject(new Error('a thread ended early'))));
    worker.postMessage(span);
  });
}

function newBoard(): ChunkBoard {
  return {
    control: new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT)),
    hashes: new Uint8Array(new SharedArrayBuffer(SPAN * HASH_LENGTH)),
  };
}

/**
 * Does all chunks of a task and returns the content hash:
 * SHA-256( label ‖ header hash ‖ SHA-256 of each chunk as it is stored, in order ).
 *
 * The files stay the caller's, and no thread uses them any more when this settles.
 * @throws ClientError content_mismatch, source_changed, storage_full, file_failed, interrupted
 */
export async function workOnChunks(task: ChunkTask, signal?: AbortSignal): Promise<Uint8Array> {
  throwIfAborted(signal);
  const board = newBoard();
  const stop = () => void Atomics.store(board.control, STOP, 1);
  const few = task.layout.size <= ALONE_BYTES;
  const crew = few ? new Alone(task, board) : new Threads(task, board);
  signal?.addEventListener('abort', stop);
  try {
    const content = createHash('sha256').update(utf8(NAME.sealedFileContent));
    content.update(task.keys.headerHash);
    for (let from = 0; from < task.layout.chunks; from += SPAN) {
      const to = Math.min(from + SPAN, task.layout.chunks);
      Atomics.store(board.control, NEXT, 0);
      await crew.work({ from, to });
      throwIfAborted(signal);
      content.update(board.hashes.subarray(0, (to - from) * HASH_LENGTH));
    }
    return content.digest();
  } catch (error) {
    throw fileFailure(error);
  } finally {
    signal?.removeEventListener('abort', stop);
    await crew.close();
  }
}
