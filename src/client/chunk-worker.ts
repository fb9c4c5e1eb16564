/** Entry of a thread that works on chunks (`chunk-crew.ts`): spans in, ends of shares out. */
import { parentPort, workerData } from 'node:worker_threads';

import { ChunkWork } from './chunk-work.ts';
import { ClientError } from './client-error.ts';
import type { ShareEnd } from './chunk-crew.ts';
import type { ChunkBoard, ChunkTask, Span } from './chunk-work.ts';

const { task, board } = workerData as { readonly task: ChunkTask; readonly board: ChunkBoard };
const work = new ChunkWork(task, board);

/** Errors of system calls keep what `fileFailure` reads; a structured clone would lose it. */
function endOf(error: unknown): ShareEnd {
  if (ClientError.is(error)) return { failed: { client: error.code, message: error.message } };
  const { message, code, syscall } = error as NodeJS.ErrnoException;
  return { failed: { message, code, syscall } };
}

function share(span: Span): ShareEnd {
  try {
    work.share(span);
    return {};
  } catch (error) {
    return endOf(error);
  }
}

parentPort?.on('message', (span: Span | null) => {
  if (span === null) parentPort?.close();
  else parentPort?.postMessage(share(span));
});
