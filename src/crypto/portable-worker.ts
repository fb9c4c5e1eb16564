/** Entry file of a thread of the portable engine: one job at a time, its secret wiped afterwards. */
import { parentPort } from 'node:worker_threads';

import { runPortableJob } from './portable-operations.ts';
import { wipe } from './secret.ts';
import type { PortableJob, PortableReply, PortableResults } from './portable-jobs.ts';

type Result = PortableResults[PortableJob['kind']];

/** An expanded key leaves in memory of its own, so that no copy of it stays in this thread. */
function send(result: Result): void {
  if (typeof result === 'boolean' || result instanceof Uint8Array) {
    parentPort?.postMessage({ result } satisfies PortableReply);
    return;
  }
  const secretKey = Uint8Array.from(result.secretKey);
  wipe(result.secretKey);
  const reply: PortableReply = { result: { publicKey: result.publicKey, secretKey } };
  parentPort?.postMessage(reply, [secretKey.buffer]);
}

function answer(job: PortableJob): void {
  try {
    send(runPortableJob(job));
  } catch (error) {
    const reply: PortableReply = { error: error instanceof Error ? error.message : String(error) };
    parentPort?.postMessage(reply);
  } finally {
    if ('secret' in job) wipe(job.secret);
  }
}

parentPort?.on('message', answer);
