/**
 * A thread that validates policies, so that a change of one keeps nobody's requests waiting: Cedar's
 * validation takes some 10 ms, and several hundred at its first time. It starts with the first policy,
 * ends when there was nothing to do for a while, and never keeps the process alive.
 */
import { Worker } from 'node:worker_threads';

import { TwofoldError } from '../errors.ts';
import { PolicyInvalid, policyRefused } from './policy-error.ts';
import type { PolicyValidation, ValidationJob, ValidationReply } from './policy-validation.ts';

export interface ValidationThreadOptions {
  /** Policies that may wait; one more is refused. */
  readonly waiting?: number;
  /** Of one policy, the start of the thread included; longer is the policy's fault. */
  readonly deadlineMs?: number;
  /** Without anything to do, until the thread ends. */
  readonly idleMs?: number;
  /** Tests only: another entry file. */
  readonly entry?: URL;
}

interface Task {
  readonly job: ValidationJob;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

const ENTRY = new URL('./validation-worker.ts', import.meta.url);
const HEAP = { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 128 };

const stopping = () => new TwofoldError('shutting_down', 'Policies are validated no more.');

export class ValidationThread implements PolicyValidation {
  readonly #options: Required<ValidationThreadOptions>;
  readonly #waiting: Task[] = [];
  #worker: Worker | null = null;
  #task: Task | null = null;
  /** Of the task, or until the thread ends that has none. */
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: ValidationThreadOptions = {}) {
    const { waiting = 32, deadlineMs = 10_000, idleMs = 60_000, entry = ENTRY } = options;
    this.#options = { waiting, deadlineMs, idleMs, entry };
  }

  get running(): boolean {
    return this.#worker !== null;
  }

  validate(text: string, id: string): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(stopping());
      } else if (this.#waiting.length >= this.#options.waiting) {
        const detail = 'Too many policies wait to be validated.';
        reject(new TwofoldError('rate_limited', detail, { retryAfter: 1 }));
      } else {
        this.#waiting.push({ job: { text, id }, resolve, reject });
        this.#next();
      }
    });
  }

  /** Ends the thread; what waits or runs is rejected with shutting_down. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(stopping());
    await this.#end(stopping());
  }

  #next(): void {
    if (this.#task !== null) return;
    const task = this.#waiting.shift();
    clearTimeout(this.#timer);
    if (task === undefined) {
      this.#timer = setTimeout(() => void this.#end(stopping()), this.#options.idleMs).unref();
      return;
    }
    this.#task = task;
    this.#worker ??= this.#start();
    this.#worker.postMessage(task.job);
    const late = () => this.#end(policyRefused('it takes too long to be validated'));
    this.#timer = setTimeout(() => void late().then(() => this.#next()), this.#options.deadlineMs);
    this.#timer.unref();
  }

  #start(): Worker {
    const worker = new Worker(this.#options.entry, { stdin: false, resourceLimits: HEAP });
    let failure: unknown;
    worker.on('message', (reply: ValidationReply) => {
      if (this.#worker === worker) this.#settle(reply);
    });
    worker.on('error', (error) => {
      failure = error;
    });
    worker.on('exit', () => {
      if (this.#worker !== worker) return;
      this.#worker = null;
      const detail = 'The thread that validates policies ended.';
      this.#fail(new TwofoldError('internal', detail, { cause: failure }));
      this.#next();
    });
    // After the listeners: the one for messages refers to the thread again.
    worker.unref();
    return worker;
  }

  #settle(reply: ValidationReply): void {
    const task = this.#task;
    this.#task = null;
    if ('error' in reply) {
      const cause = new Error(reply.error);
      task?.reject(new TwofoldError('internal', 'A policy could not be validated.', { cause }));
      // Cedar is of no use any more in a thread where it trapped.
      void this.#end(stopping()).then(() => this.#next());
      return;
    }
    if (reply.complaints.length > 0) {
      task?.reject(new PolicyInvalid(reply.complaints));
    } else {
      task?.resolve();
    }
    this.#next();
  }

  #fail(error: Error): void {
    const task = this.#task;
    this.#task = null;
    task?.reject(error);
  }

  /** Whatever runs in it. */
  async #end(reason: Error): Promise<void> {
    clearTimeout(this.#timer);
    const worker = this.#worker;
    this.#worker = null;
    this.#fail(reason);
    await worker?.terminate();
  }
}
