/** One worker thread as the main thread sees it: numbered jobs out, replies in, and its end. */
import { Worker } from 'node:worker_threads';
import { allocateChannel, Channel } from './channel.ts';
import type { Operation, OperationOf, OperationName } from './protocol.ts';
import type { Reply, Request, Results, WorkerData, WorkerOptions } from './protocol.ts';
import { exactMaterial } from './exact.ts';
import { toError } from './failures.ts';
import { TwofoldError } from '../errors.ts';
import type { Failure } from './failures.ts';
import { readReply, writeCall } from './wire.ts';

export type Outcome =
  | { readonly kind: 'result'; readonly result: unknown }
  | { readonly kind: 'failure'; readonly failure: Failure }
  /** The thread ended first; whether the call was made is not known. */
  | { readonly kind: 'crash' };

type Settle = (outcome: Outcome) => void;

interface Pending {
  readonly operation: Operation;
  readonly deadline: number;
  readonly settle: Settle;
}

const ENTRY = new URL('./worker.ts', import.meta.url);

/** A worker's own heap is small: keys and buffers live in the token and outside V8. */
const HEAP = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 64 };

/** Weight of the newest call in the mean. */
const SMOOTHING = 0.05;

export class WorkerThread {
  readonly #worker: Worker;
  readonly #channel: Channel;
  readonly #pending = new Map<number, Pending>();
  #nextJob = 1;
  #callMs = 0;
  /** Since when it has had something to do without an answer. */
  #busySince = 0;
  #ended = false;
  /** Objects it made on the token. */
  objects = 0;
  /** How many of the pending are management calls. */
  #managing = 0;

  /** `onEnd` is called once, when the thread ends for whatever reason. */
  constructor(options: WorkerOptions, onEnd: (error: Error | undefined) => void) {
    let failure: Error | undefined;
    const channel = allocateChannel();
    this.#channel = new Channel(channel);
    const workerData: WorkerData = { ...options, channel };
    this.#worker = new Worker(ENTRY, { workerData, stdin: false, resourceLimits: HEAP });
    this.#worker.on('message', (reply: Reply | null) => {
      this.#settleAll(reply === null ? this.#takeReplies() : [reply]);
    });
    this.#worker.on('error', (error) => {
      failure = error instanceof Error ? error : new Error(String(error));
    });
    this.#worker.on('exit', () => {
      this.#ended = true;
      this.#settleAll(this.#takeReplies());
      for (const { settle } of this.#pending.values()) settle({ kind: 'crash' });
      this.#pending.clear();
      this.#channel.wipe();
      onEnd(failure);
    });
  }

  /** Jobs of the queue: management calls end without the queue's knowledge and must not fill it. */
  get inFlight(): number {
    return this.#pending.size - this.#managing;
  }

  /** Milliseconds that a call has taken of late, the way there and back included. */
  get callMs(): number {
    return this.#callMs;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** `deadline` on the monotonic clock, 0 for none. `settle` is called exactly once. */
  post(operation: Operation, deadline: number, settle: Settle): void {
    if (this.#ended) {
      settle({ kind: 'crash' });
      return;
    }
    const job = this.#nextJob;
    this.#nextJob += 1;
    this.#pending.set(job, { operation, deadline, settle });
    if (this.#pending.size === 1) this.#busySince = performance.now();
    if (writeCall(this.#channel.calls, job, deadline, operation)) this.#channel.wakeWorker();
    else this.#send({ job, deadline, operation: byName(operation) });
  }

  #send(request: Request): void {
    this.#worker.postMessage(request);
    this.#channel.wakeWorker();
  }

  #takeReplies(): readonly Reply[] {
    this.#channel.heard();
    const replies: Reply[] = [];
    for (;;) {
      const frame = this.#channel.replies.read();
      if (frame === undefined) return replies;
      replies.push(readReply(frame));
      this.#channel.replies.release();
    }
  }

  #settleAll(replies: readonly Reply[]): void {
    if (replies.length > 0) this.#measure(replies);
    for (const reply of replies) this.#settle(reply);
  }

  /** A management call outside the queue, without deadline. */
  call<Name extends OperationName>(operation: OperationOf<Name>): Promise<Results[Name]> {
    this.#managing += 1;
    return new Promise((resolve, reject) => {
      this.post(operation, 0, (outcome) => {
        this.#managing -= 1;
        if (outcome.kind === 'result') resolve(outcome.result as Results[Name]);
        else if (outcome.kind === 'failure') reject(new CallFailure(outcome.failure));
        else reject(new TwofoldError('hsm_unavailable', 'an HSM worker ended'));
      });
    });
  }

  async end(): Promise<void> {
    if (!this.#ended) await this.#worker.terminate();
  }

  #settle(reply: Reply): void {
    const pending = this.#pending.get(reply.job);
    this.objects = reply.objects;
    if (pending === undefined) return;
    if ('unknownKey' in reply) {
      const { operation, deadline } = pending;
      this.#send({ job: reply.job, deadline, operation: whole(operation) });
      return;
    }
    this.#pending.delete(reply.job);
    pending.settle(
      'failure' in reply
        ? { kind: 'failure', failure: reply.failure }
        : { kind: 'result', result: reply.result },
    );
  }

  /**
   * Answers that come together were computed one after the other. The making of a key, which may take
   * seconds, says nothing of the calls that are given to a worker in advance.
   */
  #measure(replies: readonly Reply[]): void {
    const now = performance.now();
    const each = (now - this.#busySince) / replies.length;
    this.#busySince = now;
    if (replies.some(({ job }) => this.#pending.get(job)?.operation.op === 'generate')) return;
    this.#callMs += (each - this.#callMs) * SMOOTHING;
  }
}

/** The operation with its key by name. */
function byName(operation: Operation): Operation {
  return 'key' in operation ? { ...operation, key: { id: operation.key.id } } : operation;
}

/** The operation with a key that can be cloned: material of its own memory, not in a shared pool. */
function whole(operation: Operation): Operation {
  if (!('key' in operation) || !('material' in operation.key)) return operation;
  const { id, spec, material } = operation.key;
  return { ...operation, key: { id, spec, material: exactMaterial(material) } };
}

/** A management call that the token failed; keeps the consequence for the recovery. */
export class CallFailure extends Error {
  override readonly name = 'CallFailure';
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.detail);
    this.failure = failure;
  }

  toError(): TwofoldError {
    return toError(this.failure);
  }
}
