/**
 * Entry file of an HSM worker thread: the only place where the service calls the token, one call at
 * a time. The main thread has initialised the module; loading it here only takes its function list.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { PKCS11 } from 'pkcs11js';
import { wipe } from '../crypto/secret.ts';
import { Channel } from './channel.ts';
import type { Cryptoki } from './cryptoki.ts';
import { failureOf } from './failures.ts';
import { UnknownKey } from './keys.ts';
import { Operations } from './operations.ts';
import { monotonicMilliseconds } from './protocol.ts';
import type { Operation, Reply, Request, WorkerData } from './protocol.ts';
import { readCall, writeReply } from './wire.ts';

const options = workerData as WorkerData;
const channel = new Channel(options.channel);
const operations = new Operations(await load(), options);

/** Calls answered by one message at most; a wake-up of the main thread costs as much as some calls. */
const TOGETHER = 4;

// The thread has nothing else to do and ends only from outside, so it needs no event loop.
for (let answered = 0; ;) {
  const sent = channel.sent();
  // Messages are few, and `forget` has to come before the calls that were made after it.
  const served = serveMessage() || serveFrame();
  if (served) answered += 1;
  if (answered >= TOGETHER || (answered > 0 && !served)) {
    if (channel.ringMain()) parentPort?.postMessage(null);
    answered = 0;
  }
  if (!served) channel.sleepUnlessSent(sent);
}

function serveFrame(): boolean {
  const frame = channel.calls.read();
  if (frame === undefined) return false;
  try {
    send(answer(readCall(frame)));
  } finally {
    channel.calls.release();
  }
  return true;
}

function serveMessage(): boolean {
  if (parentPort === null) return false;
  const received = receiveMessageOnPort(parentPort) as { readonly message: Request } | undefined;
  if (received === undefined) return false;
  send(answer(received.message));
  return true;
}

function send(reply: Reply): void {
  if (writeReply(channel.replies, reply)) return;
  parentPort?.postMessage(reply, 'result' in reply ? transferable(reply.result) : []);
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
  if (operation.op === 'encrypt') wipe(operation.items);
}
