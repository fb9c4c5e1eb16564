/**
 * The bounded queue in front of the workers.
 *
 * A job is refused at once when the queue is full, and fails at its deadline wherever it is. Each
 * worker is given a few jobs ahead, so that it does not idle for a message's round trip.
 */
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { toError } from './failures.ts';
import type { Failure } from './failures.ts';
import { monotonicMilliseconds } from './protocol.ts';
import type { Operation } from './protocol.ts';
import type { Outcome, WorkerThread } from './thread.ts';

/** Jobs posted to one worker at a time: one runs, the others wait where it will find them. */
const DEPTH = 3;
const SWEEP_MS = 25;

export interface QueueLimits {
  /** Jobs waiting or running. */
  readonly queueLimit: number;
  readonly deadlineMs: number;
}

export interface QueueEvents {
  /** The sessions under the current epoch are gone. */
  lost(failure: Failure): void;
  /** A known-answer run should show whether the token still computes. */
  suspect(failure: Failure): void;
  /** Why calls wait, for those that give up while the token is away. */
  explain(): string;
}

interface Job {
  readonly operation: Operation;
  readonly deadline: number;
  /** May be sent again after a lost session: it leaves nothing behind, or repeats harmlessly. */
  readonly repeatable: boolean;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: TwofoldError) => void;
  attempts: number;
  settled: boolean;
  thread: WorkerThread | undefined;
}

export class JobQueue {
  readonly #limits: QueueLimits;
  readonly #events: QueueEvents;
  readonly #waiting: Job[] = [];
  readonly #running = new Set<Job>();
  #threads: readonly WorkerThread[] = [];
  #closed = false;
  #sweeper: NodeJS.Timeout | undefined;

  constructor(limits: QueueLimits, events: QueueEvents) {
    this.#limits = limits;
    this.#events = events;
  }

  get size(): number {
    return this.#waiting.length + this.#running.size;
  }

  /** True when every worker is held by a call that passed its deadline: the token hangs. */
  get hangs(): boolean {
    const overdue = new Set([...this.#running].flatMap((job) => (job.settled ? [job.thread] : [])));
    return this.#threads.length > 0 && this.#threads.every((thread) => overdue.has(thread));
  }

  /** Gives jobs to these workers; none pauses the queue. */
  serve(threads: readonly WorkerThread[]): void {
    this.#threads = threads;
    this.#dispatch();
  }

  submit(operation: Operation, options: { repeatable: boolean; deadlineMs?: number }) {
    return new Promise<unknown>((resolve, reject) => {
      if (this.#closed) {
        reject(new TwofoldError('hsm_unavailable', 'the HSM connection is closed'));
        return;
      }
      if (this.size >= this.#limits.queueLimit) {
        reject(new TwofoldError('hsm_busy', 'too many calls wait for the HSM', { retryAfter: 1 }));
        return;
      }
      const deadline = monotonicMilliseconds() + (options.deadlineMs ?? this.#limits.deadlineMs);
      const { repeatable } = options;
      const progress = { attempts: 0, settled: false, thread: undefined };
      this.#waiting.push({ operation, deadline, repeatable, resolve, reject, ...progress });
      this.#sweeper ??= setInterval(() => {
        this.#sweep();
      }, SWEEP_MS);
      this.#dispatch();
    });
  }

  /** Fails everything that waits; what runs is answered as it ends. */
  failWaiting(detail: string): void {
    for (const job of this.#waiting.splice(0)) {
      fail(job, new TwofoldError('hsm_unavailable', detail));
    }
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#sweeper);
    this.failWaiting('the HSM connection is closed');
  }

  #dispatch(): void {
    while (this.#waiting.length > 0) {
      const thread = leastLoaded(this.#threads);
      if (thread === undefined) return;
      const job = this.#waiting.shift();
      if (job !== undefined) this.#run(job, thread);
    }
  }

  #run(job: Job, thread: WorkerThread): void {
    job.attempts += 1;
    job.thread = thread;
    this.#running.add(job);
    thread.post(job.operation, job.deadline, (outcome) => {
      this.#running.delete(job);
      this.#conclude(job, outcome);
      this.#dispatch();
      if (this.size === 0) {
        clearInterval(this.#sweeper);
        this.#sweeper = undefined;
      }
    });
  }

  #conclude(job: Job, outcome: Outcome): void {
    if (outcome.kind === 'result') {
      if (job.settled) discard(outcome.result);
      else succeed(job, outcome.result);
      return;
    }
    const lost = outcome.kind === 'crash' || outcome.failure.consequence === 'lost';
    if (outcome.kind === 'failure') this.#report(outcome.failure);
    if (job.settled) return;
    if (lost && job.repeatable && job.attempts === 1 && !this.#closed) {
      this.#waiting.unshift(job);
      return;
    }
    fail(
      job,
      outcome.kind === 'crash'
        ? new TwofoldError('hsm_unavailable', 'an HSM worker ended')
        : toError(outcome.failure),
    );
  }

  #report(failure: Failure): void {
    if (failure.consequence === 'lost') this.#events.lost(failure);
    if (failure.consequence === 'suspect') this.#events.suspect(failure);
  }

  #sweep(): void {
    const now = monotonicMilliseconds();
    for (const job of this.#running) {
      if (job.deadline < now && !job.settled) {
        fail(job, new TwofoldError('hsm_unavailable', 'the HSM did not answer in time'));
      }
    }
    const paused = this.#threads.length === 0;
    for (const job of this.#waiting.filter(({ deadline }) => deadline < now)) {
      this.#waiting.splice(this.#waiting.indexOf(job), 1);
      fail(job, paused ? unavailable(this.#events.explain()) : late());
    }
    if (this.size === 0) {
      clearInterval(this.#sweeper);
      this.#sweeper = undefined;
    }
  }
}

function leastLoaded(threads: readonly WorkerThread[]): WorkerThread | undefined {
  let best: WorkerThread | undefined;
  for (const thread of threads) {
    if (thread.inFlight < (best?.inFlight ?? DEPTH)) best = thread;
  }
  return best;
}

function succeed(job: Job, result: unknown): void {
  job.settled = true;
  job.resolve(result);
}

function fail(job: Job, error: TwofoldError): void {
  job.settled = true;
  job.reject(error);
}

/** An answer that nobody waits for any more may be a secret. */
function discard(result: unknown): void {
  if (result instanceof Uint8Array) wipe(result);
}

function unavailable(detail: string): TwofoldError {
  return new TwofoldError('hsm_unavailable', detail);
}

function late(): TwofoldError {
  return new TwofoldError('hsm_busy', 'the call waited too long for the HSM', { retryAfter: 1 });
}
