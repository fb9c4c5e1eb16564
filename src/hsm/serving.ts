/**
 * What a worker thread does: the only place where the service calls the token, one call at a time. The
 * main thread has initialised the module; loading it here only takes its function list.
 */
import { receiveMessageOnPort } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
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

/** Calls answered by one message at most; a wake-up of the main thread costs as much as some calls. */
const TOGETHER = 4;

export class Serving {
  readonly #port: MessagePort;
  readonly #channel: Channel;
  readonly #operations: Operations;

  private constructor(port: MessagePort, channel: Channel, operations: Operations) {
    this.#port = port;
    this.#channel = channel;
    this.#operations = operations;
  }

  static async open(port: MessagePort, options: WorkerData): Promise<Serving> {
    const channel = new Channel(options.channel);
    return new Serving(port, channel, new Operations(await load(options), options));
  }

  /** The thread has nothing else to do and ends only from outside, so it needs no event loop. */
  run(): never {
    for (let answered = 0; ;) {
      const sent = this.#channel.sent();
      // Messages are few, and `forget` has to come before the calls that were made after it.
      const served = this.#serveMessage() || this.#serveFrame();
      if (served) answered += 1;
      if (answered >= TOGETHER || (answered > 0 && !served)) {
        if (this.#channel.ringMain()) this.#port.postMessage(null);
        answered = 0;
      }
      if (!served) this.#channel.sleepUnlessSent(sent);
    }
  }

  #serveFrame(): boolean {
    const frame = this.#channel.calls.read();
    if (frame === undefined) return false;
    try {
      this.#send(this.#answer(readCall(frame)));
    } finally {
      this.#channel.calls.release();
    }
    return true;
  }

  #serveMessage(): boolean {
    const received = receiveMessageOnPort(this.#port) as { readonly message: Request } | undefined;
    if (received === undefined) return false;
    this.#send(this.#answer(received.message));
    return true;
  }

  #send(reply: Reply): void {
    if (writeReply(this.#channel.replies, reply)) return;
    this.#port.postMessage(reply, 'result' in reply ? transferable(reply.result) : []);
  }

  #answer({ job, deadline, operation }: Request): Reply {
    if (deadline !== 0 && monotonicMilliseconds() > deadline) {
      wipeInputs(operation);
      return this.#expired(job);
    }
    try {
      const result = this.#operations.run(operation);
      return { job, result, objects: this.#operations.objects };
    } catch (error) {
      const { objects } = this.#operations;
      if (error instanceof UnknownKey) return { job, unknownKey: true, objects };
      return { job, failure: failureOf(error, 'produce'), objects };
    } finally {
      wipeInputs(operation);
    }
  }

  #expired(job: number): Reply {
    const failure = {
      code: 'hsm_busy',
      detail: 'the deadline passed while the call waited for the HSM',
      consequence: 'none',
      returnValue: undefined,
    } as const;
    return { job, failure, objects: this.#operations.objects };
  }
}

async function load({ module, hook }: WorkerData): Promise<Cryptoki> {
  const cryptoki = new PKCS11(module);
  if (hook !== undefined) {
    const { wrapCryptoki } = (await import(hook.url)) as {
      wrapCryptoki: (cryptoki: Cryptoki, data: unknown) => void;
    };
    wrapCryptoki(cryptoki, hook.data);
  }
  return cryptoki;
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
