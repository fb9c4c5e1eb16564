/**
 * Entry file of an HSM worker thread: the only place where the service calls the token, one call at
 * a time. The main thread has initialised the module; loading it here only takes its function list.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { PKCS11 } from 'pkcs11js';
import { wipe } from '../crypto/secret.ts';
import type { Cryptoki } from './cryptoki.ts';
import { failureOf } from './failures.ts';
import { UnknownKey } from './keys.ts';
import { Operations } from './operations.ts';
import { monotonicMilliseconds } from './protocol.ts';
import type { Operation, Reply, Request, WorkerOptions } from './protocol.ts';

const options = workerData as WorkerOptions;
const operations = new Operations(await load(), options);

/** Calls answered by one message at most; a wake-up of the main thread costs as much as some calls. */
const TOGETHER = 4;

parentPort?.on('message', (first: Request) => {
  const answers = [answer(first)];
  while (answers.length < TOGETHER) {
    const next = waitingRequest();
    if (next === undefined) break;
    answers.push(answer(next));
  }
  const transfer = answers.flatMap((reply) =>
    'result' in reply ? transferable(reply.result) : [],
  );
  parentPort?.postMessage(answers, transfer);
});

function waitingRequest(): Request | undefined {
  if (parentPort === null) return undefined;
  const received = receiveMessageOnPort(parentPort) as { readonly message: Request } | undefined;
  return received?.message;
}

async function load(): Promise<Cryptoki> {
  const cryptoki = new PKCS11(options.module);
  if (options.hook !== undefined) {
    const { wrapCryptoki } = (await import(options.hook.url)) as {
      wrapCryptoki: (cryptoki: Cryptoki, data: unknown) => void;
    };
    wrapCryptoki(cryptoki, options.hook.data);
  }
  return cryptoki;
}

function answer({ job, deadline, operation }: Request): Reply {
  if (deadline !== 0 && monotonicMilliseconds() > deadline) {
    wipeInputs(operation);
    return expired(job);
  }
  try {
    const result = operations.run(operation);
    return { job, result, objects: operations.objects };
  } catch (error) {
    const { objects } = operations;
    if (error instanceof UnknownKey) return { job, unknownKey: true, objects };
    return { job, failure: failureOf(error, 'produce'), objects };
  } finally {
    wipeInputs(operation);
  }
}

function expired(job: number): Reply {
  const failure = {
    code: 'hsm_busy',
    detail: 'the deadline passed while the call waited for the HSM',
    consequence: 'none',
    returnValue: undefined,
  } as const;
  return { job, failure, objects: operations.objects };
}

/** Moves a result's memory to the main thread, so that no copy of a secret stays here. */
function transferable(result: unknown): ArrayBuffer[] {
  return result instanceof Uint8Array && result.buffer instanceof ArrayBuffer
    ? [result.buffer]
    : [];
}

function wipeInputs(operation: Operation): void {
  if (operation.op === 'open') wipe(operation.pin);
  if (operation.op === 'encrypt') wipe(operation.plaintext);
}
