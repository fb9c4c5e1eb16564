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
}

interface Job {
  readonly operation: Operation;
  readonly deadline: number;
  /** May be sent again after a lost session: it leaves nothing behind, or repeats harmlessly. */
  readonly repeatable: boolean;
  readonly urgent: boolean;
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
  readonly #running = new Set<Job>();
  #threads: readonly WorkerThread[] = [];
  #closed = false;
  #sweeper: NodeJS.Timeout | undefined;

  constructor(limits: QueueLimits, events: QueueEvents) {
    this.#limits = limits;
    this.#events = events;
  }

  get size(): number {
    return this.#urgent.length + this.#waiting.length + this.#running.size;
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
      const { repeatable, urgent = false } = options;
      const progress = { attempts: 0, settled: false, thread: undefined };
      const line = urgent ? this.#urgent : this.#waiting;
      line.push({ operation, deadline, repeatable, urgent, resolve, reject, ...progress });
      this.#sweeper ??= setInterval(() => {
        this.#sweep();
      }, SWEEP_MS);
      this.#dispatch();
    });
  }

  /** Fails everything that waits; what runs is answered as it ends. */
  failWaiting(detail: string): void {
    for (const job of [...this.#urgent.splice(0), ...this.#waiting.splice(0)]) {
      fail(job, new TwofoldError('hsm_unavailable', detail));
    }
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#sweeper);
    this.failWaiting('the HSM connection is closed');
  }

  #dispatch(): void {
    for (;;) {
      const line = this.#urgent.length > 0 ? this.#urgent : this.#waiting;
      const [job] = line;
      const thread = job === undefined ? undefined : choose(this.#threads, job.urgent);
      if (job === undefined || thread === undefined) return;
      line.shift();
      this.#run(job, thread);
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
      if (job.settled) this.#discard(job, outcome.result);
      else succeed(job, outcome.result);
      return;
    }
    const lost = outcome.kind === 'crash' || outcome.failure.consequence === 'lost';
    if (outcome.kind === 'failure') this.#report(outcome.failure);
    if (job.settled) return;
    if (lost && job.repeatable && job.attempts === 1 && !this.#closed) {
      (job.urgent ? this.#urgent : this.#waiting).unshift(job);
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
    for (const line of [this.#urgent, this.#waiting]) {
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
