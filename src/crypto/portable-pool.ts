/**
 * The threads of the portable engine. They start with the first job, never keep the process alive,
 * and are replaced when they crash. One of them is always left to jobs that do not take seconds, so
 * that no verification waits behind a signature of SLH-DSA.
 */
import { Worker } from 'node:worker_threads';

import { TwofoldError } from '../errors.ts';
import { isLong } from './portable-jobs.ts';
import { wipe } from './secret.ts';
import type { PortableJob, PortableReply, PortableResults } from './portable-jobs.ts';

export interface PortablePoolOptions {
  /** Two at least: one for short jobs. */
  readonly threads?: number;
  /** Long jobs, and short ones, that may wait for a thread; one more of its kind is refused. */
  readonly waiting?: number;
  /** Tests only: another entry file. */
  readonly entry?: URL;
}

type Result = PortableResults[PortableJob['kind']];

interface Task {
  readonly job: PortableJob;
  readonly long: boolean;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly worker: Worker;
  task: Task | undefined;
}

const ENTRY = new URL('./portable-worker.ts', import.meta.url);
const HEAP = { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 128 };

const stopping = () => new TwofoldError('shutting_down', 'The portable engine is closed.');

function discard({ job, reject }: Task, error: Error): void {
  if ('secret' in job) wipe(job.secret);
  reject(error);
}

export class PortablePool {
  readonly #limits: Required<PortablePoolOptions>;
  readonly #threads = new Set<Thread>();
  readonly #waiting: Task[] = [];
  #closed = false;

  constructor({ threads = 2, waiting = 32, entry = ENTRY }: PortablePoolOptions = {}) {
    this.#limits = { threads, waiting, entry };
  }

  /** Threads that run at the moment, whether they have a job or not. */
  get threads(): number {
    return this.#threads.size;
  }

  /**
   * Takes over `job.secret`, which is wiped whatever happens.
   *
   * @throws TwofoldError rate_limited when too many jobs wait, shutting_down after `close`, internal
   *   when the job failed or its thread crashed
   */
  run<Kind extends PortableJob['kind']>(
    job: PortableJob & { readonly kind: Kind },
  ): Promise<PortableResults[Kind]> {
    return new Promise((resolve, reject) => {
      const settle = resolve as (result: Result) => void;
      const task: Task = { job, long: isLong(job), resolve: settle, reject };
      if (this.#closed) {
        discard(task, stopping());
        return;
      }
      this.#waiting.push(task);
      this.#dispatch();
      // Each kind has its own line, or long jobs would shut short ones out of the thread that is kept free.
      const alike = this.#waiting.filter(({ long }) => long === task.long).length;
      if (alike <= this.#limits.waiting) return;
      this.#waiting.pop();
      const detail = 'Too many slow post-quantum operations wait for a thread.';
      discard(task, new TwofoldError('rate_limited', detail, { retryAfter: 1 }));
    });
  }

  /** Ends the threads; what waits or runs is rejected with shutting_down. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const task of this.#waiting.splice(0)) discard(task, stopping());
    await Promise.all([...this.#threads].map(({ worker }) => worker.terminate()));
  }

  #dispatch(): void {
    for (;;) {
      const threads = [...this.#threads];
      const idle = threads.find(({ task }) => task === undefined);
      if (idle === undefined && threads.length >= this.#limits.threads) return;
      const long = threads.filter(({ task }) => task?.long === true).length;
      const mayBeLong = long < this.#limits.threads - 1;
      const index = this.#waiting.findIndex((task) => !task.long || mayBeLong);
      const [task] = index < 0 ? [] : this.#waiting.splice(index, 1);
      if (task === undefined) return;
      this.#hand(idle ?? this.#start(), task);
    }
  }

  #hand(thread: Thread, task: Task): void {
    thread.task = task;
    const { job } = task;
    const transfer = 'secret' in job ? [job.secret.buffer as ArrayBuffer] : [];
    thread.worker.postMessage(job, transfer);
  }

  #start(): Thread {
    const worker = new Worker(this.#limits.entry, { stdin: false, resourceLimits: HEAP });
    const thread: Thread = { worker, task: undefined };
    this.#threads.add(thread);
    let failure: unknown;
    worker.on('message', (reply: PortableReply) => {
      this.#settle(thread, reply);
    });
    worker.on('error', (error) => {
      failure = error;
    });
    worker.on('exit', () => {
      this.#threads.delete(thread);
      const detail = 'A thread of the portable engine ended.';
      const crashed = () => new TwofoldError('internal', detail, { cause: failure });
      thread.task?.reject(this.#closed ? stopping() : crashed());
      if (!this.#closed) this.#dispatch();
    });
    // After the listeners: the one for messages refers to the thread again.
    worker.unref();
    return thread;
  }

  #settle(thread: Thread, reply: PortableReply): void {
    const { task } = thread;
    thread.task = undefined;
    if ('error' in reply) {
      const cause = new Error(reply.error);
      task?.reject(new TwofoldError('internal', 'A post-quantum operation failed.', { cause }));
    } else {
      task?.resolve(reply.result);
    }
    this.#dispatch();
  }
}

/** For engines without a life of their own; its threads do not keep the process alive. */
export const portablePool: PortablePool = new PortablePool();
