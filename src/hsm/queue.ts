/**
 * The bounded queue in front of the workers.
 *
 * A job is refused at once when the queue is full, and fails at its deadline wherever it is. Each
 * worker is given a few jobs ahead, so that it does not idle for a message's round trip.
 *
 * A lengthy job, which may take seconds, gets a worker of its own while it runs: nothing is given to that
 * one, and one worker is always left for the rest (where there are two).
 */
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { toError } from './failures.ts';
import type { Failure } from './failures.ts';
import type { TokenMaterial } from './port.ts';
import { monotonicMilliseconds } from './protocol.ts';
import type { Operation } from './protocol.ts';
import type { Outcome, WorkerThread } from './thread.ts';

/** Jobs posted to one worker at a time: one runs, the others wait where it will find them. */
const DEPTH = { least: 3, most: 16 } as const;
/** What a worker may have before it at most, where its calls are short: an urgent job waits behind it. */
const AHEAD_MS = 0.75;
/** To wait behind a shorter call costs less than to wake another thread. */
const SHORT_MS = 0.5;
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

interface SubmitOptions {
  readonly repeatable: boolean;
  readonly deadlineMs?: number;
  /** Ahead of what waits. */
  readonly urgent?: boolean;
  /** May take seconds. */
  readonly lengthy?: boolean;
}

interface Job {
  readonly operation: Operation;
  readonly deadline: number;
  /** May be sent again after a lost session: it leaves nothing behind, or repeats harmlessly. */
  readonly repeatable: boolean;
  readonly urgent: boolean;
  readonly lengthy: boolean;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: TwofoldError) => void;
  attempts: number;
  settled: boolean;
  thread: WorkerThread | undefined;
}

export class JobQueue {
  readonly #limits: QueueLimits;
  readonly #events: QueueEvents;
  readonly #urgent: Job[] = [];
  readonly #waiting: Job[] = [];
  readonly #lengthy: Job[] = [];
  readonly #running = new Set<Job>();
  /** Workers that run a lengthy job. */
  readonly #occupied = new Set<WorkerThread>();
  /** A worker that is given nothing more, until it is free for the next lengthy job. */
  #reserved: WorkerThread | undefined;
  #threads: readonly WorkerThread[] = [];
  #closed = false;
  #sweeper: NodeJS.Timeout | undefined;

  constructor(limits: QueueLimits, events: QueueEvents) {
    this.#limits = limits;
    this.#events = events;
  }

  get size(): number {
    const { length } = this.#lengthy;
    return this.#urgent.length + this.#waiting.length + length + this.#running.size;
  }

  /** True when every worker is held by a call that passed its deadline: the token hangs. */
  get hangs(): boolean {
    const overdue = new Set([...this.#running].flatMap((job) => (job.settled ? [job.thread] : [])));
    return this.#threads.length > 0 && this.#threads.every((thread) => overdue.has(thread));
  }

  /** Gives jobs to these workers; none pauses the queue. */
  serve(threads: readonly WorkerThread[]): void {
    this.#threads = threads;
    this.#reserved = undefined;
    this.#dispatch();
  }

  submit(operation: Operation, options: SubmitOptions) {
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
      const { repeatable, urgent = false, lengthy = false } = options;
      const progress = { attempts: 0, settled: false, thread: undefined };
      const kind = { repeatable, urgent, lengthy };
      const job = { operation, deadline, ...kind, resolve, reject, ...progress };
      this.#lineOf(job).push(job);
      this.#sweeper ??= setInterval(() => {
        this.#sweep();
      }, SWEEP_MS);
      this.#dispatch();
    });
  }

  /** Fails everything that waits; what runs is answered as it ends. */
  failWaiting(detail: string): void {
    for (const job of this.#lines.flatMap((line) => line.splice(0))) {
      fail(job, new TwofoldError('hsm_unavailable', detail));
    }
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#sweeper);
    this.failWaiting('the HSM connection is closed');
  }

  get #lines(): readonly Job[][] {
    return [this.#urgent, this.#waiting, this.#lengthy];
  }

  #lineOf(job: Pick<Job, 'urgent' | 'lengthy'>): Job[] {
    if (job.lengthy) return this.#lengthy;
    return job.urgent ? this.#urgent : this.#waiting;
  }

  #dispatch(): void {
    if (this.#lengthy.length > 0) this.#dispatchLengthy();
    else this.#reserved = undefined;
    for (;;) {
      const line = this.#urgent.length > 0 ? this.#urgent : this.#waiting;
      const [job] = line;
      const thread = job === undefined ? undefined : choose(this.#available(), job.urgent);
      if (job === undefined || thread === undefined) return;
      line.shift();
      this.#run(job, thread);
    }
  }

  /** Messages go ahead of frames in a worker, so what was given to it must have ended first. */
  #dispatchLengthy(): void {
    if (this.#occupied.size >= Math.max(1, this.#threads.length - 1)) return;
    if (this.#reserved?.ended === true) this.#reserved = undefined;
    this.#reserved ??= idlest(this.#available());
    const thread = this.#reserved;
    if (thread === undefined || thread.inFlight > 0) return;
    const job = this.#lengthy.shift();
    this.#reserved = undefined;
    if (job !== undefined) this.#run(job, thread);
  }

  #available(): readonly WorkerThread[] {
    if (this.#occupied.size === 0 && this.#reserved === undefined) return this.#threads;
    return this.#threads.filter(
      (thread) => thread !== this.#reserved && !this.#occupied.has(thread),
    );
  }

  #run(job: Job, thread: WorkerThread): void {
    job.attempts += 1;
    job.thread = thread;
    this.#running.add(job);
    if (job.lengthy) this.#occupied.add(thread);
    thread.post(job.operation, job.deadline, (outcome) => {
      this.#running.delete(job);
      if (job.lengthy) this.#occupied.delete(thread);
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
      if (job.settled) this.#discard(job, outcome.result);
      else succeed(job, outcome.result);
      return;
    }
    const lost = outcome.kind === 'crash' || outcome.failure.consequence === 'lost';
    if (outcome.kind === 'failure') this.#report(outcome.failure);
    if (job.settled) return;
    if (lost && job.repeatable && job.attempts === 1 && !this.#closed) {
      this.#lineOf(job).unshift(job);
      return;
    }
    fail(
      job,
      outcome.kind === 'crash'
        ? new TwofoldError('hsm_unavailable', 'an HSM worker ended')
        : toError(outcome.failure),
    );
  }

  /** An answer that nobody waits for any more: it may be a secret, or a token object without an owner. */
  #discard({ operation }: Job, result: unknown): void {
    if (result instanceof Uint8Array) wipe(result);
    if (operation.op !== 'generate' || operation.custody !== 'hsm-token') return;
    const material = result as TokenMaterial;
    // Should this fail too, the object is still named by its intent, which the next start reads.
    this.submit({ op: 'destroy-token-key', material }, { repeatable: true }).catch(() => undefined);
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
    for (const line of this.#lines) {
      for (const job of line.filter(({ deadline }) => deadline < now)) {
        line.splice(line.indexOf(job), 1);
        fail(job, paused ? unavailable(this.#events.explain()) : late());
      }
    }
    if (this.size === 0) {
      clearInterval(this.#sweeper);
      this.#sweeper = undefined;
    }
  }
}

function idlest(threads: readonly WorkerThread[]): WorkerThread | undefined {
  return threads
    .filter(({ ended }) => !ended)
    .reduce<WorkerThread | undefined>(
      (best, one) => (best === undefined || one.inFlight < best.inFlight ? one : best),
      undefined,
    );
}

/** The thread for the next job; undefined when all have enough. An urgent job goes where least waits. */
function choose(threads: readonly WorkerThread[], urgent: boolean): WorkerThread | undefined {
  let best: WorkerThread | undefined;
  for (const thread of threads) {
    const { inFlight } = thread;
    if (thread.ended || inFlight >= depthOf(thread)) continue;
    if (!urgent && inFlight > 0 && thread.callMs < SHORT_MS) return thread;
    if (best === undefined || inFlight < best.inFlight) best = thread;
  }
  return best;
}

function depthOf({ callMs }: WorkerThread): number {
  return Math.max(DEPTH.least, Math.min(DEPTH.most, Math.floor(AHEAD_MS / callMs)));
}

function succeed(job: Job, result: unknown): void {
  job.settled = true;
  job.resolve(result);
}

function fail(job: Job, error: TwofoldError): void {
  job.settled = true;
  job.reject(error);
}

function unavailable(detail: string): TwofoldError {
  return new TwofoldError('hsm_unavailable', detail);
}

function late(): TwofoldError {
  return new TwofoldError('hsm_busy', 'the call waited too long for the HSM', { retryAfter: 1 });
}
