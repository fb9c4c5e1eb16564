/**
 * The process of `serve --workers N` that the user started: it holds the data folder, prepares the
 * database, listens, and keeps N workers running. It opens no session on the token, reads no byte of a
 * connection, and sees no key.
 *
 *     database → worker 1 → its listeners → ready → the other workers
 */
import { setTimeout as sleep } from 'node:timers/promises';

import type { Config } from '../../config.ts';
import type { Status } from '../../contract/status.ts';
import { TwofoldError } from '../../errors.ts';
import { WholeMetrics } from '../../telemetry/whole-metrics.ts';
import type { Log } from '../../telemetry/logs.ts';
import { configurationDigest } from './configuration-digest.ts';
import { prepareDatabase } from '../database.ts';
import type { OnWaiting, RunningService } from '../running.ts';
import type { Unwinding } from '../unwinding.ts';
import { VERSION } from '../version.ts';
import { Doors } from './doors.ts';
import type { FromWorker, ListenerName, OfAll } from './protocol.ts';
import { wholeStatus } from './whole-status.ts';
import { WorkerProcess } from './worker-process.ts';

/** One that ended sooner than that after its start has failed in a row with the one before it. */
const STEADY_MS = 30_000;
/** So many in a row, and none that is ready: there is nothing to wait for. */
const FAILURES = 5;
const PAUSE = { firstMs: 250, limitMs: 10_000 } as const;

interface Slot {
  readonly number: number;
  worker: WorkerProcess | null;
  restarts: number;
  failures: number;
}

export interface SupervisorOptions {
  readonly config: Config;
  /** Flags of the configuration, for the workers. */
  readonly argv: readonly string[];
  /** Descriptor of the data folder's lock; null where there is none to inherit. */
  readonly lock: number | null;
  readonly log: Log;
  readonly onWaiting: OnWaiting;
}

/** The end of the service, and what it has to say to whoever started it. */
export class WorkersFailed extends Error {
  readonly lines: readonly string[];

  constructor(lines: readonly string[]) {
    super(lines.join('\n'));
    this.lines = lines;
  }
}

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #unwinding: Unwinding;
  readonly #slots: readonly Slot[];
  readonly #doors: Doors;
  readonly #metrics = new WholeMetrics();
  readonly #first = Promise.withResolvers<RunningService>();
  readonly #failed = Promise.withResolvers<never>();
  readonly #ending = new AbortController();
  #complete = false;
  #told = '';

  constructor(options: SupervisorOptions, unwinding: Unwinding) {
    this.#options = options;
    this.#unwinding = unwinding;
    this.#slots = Array.from({ length: options.config.workers }, (_, index) => ({
      number: index + 1,
      worker: null,
      restarts: 0,
      failures: 0,
    }));
    this.#doors = new Doors(options.config, () => this.#running());
    // They may settle while nobody waits for them.
    for (const { promise } of [this.#first, this.#failed]) promise.catch(() => undefined);
    process.once('exit', () => this.#kill());
  }

  /** Rejects when workers keep ending and none is ready. */
  get failed(): Promise<never> {
    return this.#failed.promise;
  }

  /** Resolves when the first worker is ready; the others follow. */
  async start(): Promise<RunningService> {
    const { config, log } = this.#options;
    const [slot] = this.#slots;
    if (slot === undefined) throw new TypeError('there is no worker');
    this.#unwinding.add('workers', () => this.#stopAll());
    // It loads its program while the database starts.
    const first = this.#spawn(slot);
    await prepareDatabase(config, VERSION, log, this.#unwinding);
    this.#unwinding.check();
    this.#begin(first);
    return Promise.race([this.#first.promise, this.#failed.promise]);
  }

  /** Has every worker read its secrets again; one that is replaced reads them at its start. */
  reload(): void {
    for (const worker of this.#running()) worker.tell({ type: 'reload' });
  }

  /** Asks all workers to stop, and waits for their ends. The database is stopped after them. */
  async stop(hastened: AbortSignal): Promise<void> {
    hastened.addEventListener('abort', () => this.#tellStop(true), { once: true });
    await this.#stopAll(hastened.aborted);
  }

  async #stopAll(hasten = false): Promise<void> {
    this.#ending.abort();
    this.#first.reject(new TwofoldError('shutting_down'));
    this.#tellStop(hasten);
    await Promise.all(this.#running().map(({ exited }) => exited));
    this.#doors.close();
  }

  #isStopping(): boolean {
    return this.#ending.signal.aborted;
  }

  #tellStop(hasten: boolean): void {
    for (const worker of this.#running()) worker.tell({ type: 'stop', hasten });
  }

  /** The end of this process, however it came: nobody would look after them. */
  #kill(): void {
    for (const worker of this.#running()) worker.kill();
  }

  #running(): readonly WorkerProcess[] {
    return this.#slots.flatMap(({ worker }) => (worker === null ? [] : [worker]));
  }

  #spawn(slot: Slot): WorkerProcess {
    const { argv, lock } = this.#options;
    slot.worker = new WorkerProcess(slot.number, argv, lock, {
      said: (worker, message) => this.#hear(worker, message),
      returned: (connections) => connections.forEach(this.#doors.accept),
      ended: (worker, how) => void this.#ended(slot, worker, how),
    });
    return slot.worker;
  }

  #begin(worker: WorkerProcess): void {
    worker.tell({
      type: 'begin',
      worker: worker.number,
      of: this.#slots.length,
      first: !this.#complete,
      configuration: configurationDigest(this.#options.config),
    });
    this.#told = '';
    this.#tellWhole();
  }

  #hear(worker: WorkerProcess, message: FromWorker): void {
    switch (message.type) {
      case 'listen':
        void this.#bind(worker, message.listener);
        break;
      case 'waiting':
        this.#options.onWaiting(message.status);
        break;
      case 'complete':
        this.#completed(message.service);
        break;
      case 'failed':
        this.#options.log.error({ worker: worker.number, lines: message.lines }, 'a start failed');
        if (!this.#complete) this.#giveUp(message.lines);
        break;
      case 'readiness':
        this.#tellWhole();
        this.#doors.serve();
        break;
      case 'ask':
        void this.#answer(worker, message.id, message.what);
        break;
      case 'unlisten':
        // The others are about to follow.
        if (this.#isStopping()) this.#doors.close();
        break;
      case 'taken':
      case 'closed':
      case 'answer':
        break;
    }
  }

  #completed(service: RunningService): void {
    this.#first.resolve(service);
    if (this.#complete) return;
    this.#complete = true;
    for (const slot of this.#slots) if (slot.worker === null) this.#begin(this.#spawn(slot));
  }

  async #bind(worker: WorkerProcess, listener: ListenerName): Promise<void> {
    try {
      const address = await this.#doors.bind(listener);
      worker.tell({ type: 'bound', listener, address });
      this.#doors.serve();
    } catch (error) {
      const { code, address, port, message } = error as NodeJS.ErrnoException & {
        address?: string;
        port?: number;
      };
      worker.tell({ type: 'not-bound', listener, failure: { code, address, port, message } });
    }
  }

  async #ended(slot: Slot, worker: WorkerProcess, how: string): Promise<void> {
    slot.worker = null;
    await this.#metrics.end(worker.lastFigures);
    this.#tellWhole();
    if (this.#isStopping()) return;
    const steady = performance.now() - worker.spawnedAt > STEADY_MS;
    slot.failures = steady ? 1 : slot.failures + 1;
    slot.restarts += 1;
    const { number, failures } = slot;
    this.#options.log.error({ worker: number, how, failures }, 'a worker ended');
    if (failures >= FAILURES && !this.#running().some(({ ready }) => ready)) {
      const times = `${String(failures)} times in a row, the last time by ${how}`;
      this.#giveUp([
        `twofold: worker ${String(number)} ended ${times}; no other is ready (internal)`,
      ]);
      return;
    }
    // The first is replaced at once.
    const pause = failures === 1 ? 0 : PAUSE.firstMs * 2 ** (failures - 2);
    const { signal } = this.#ending;
    await sleep(Math.min(pause, PAUSE.limitMs), undefined, { signal }).catch(() => undefined);
    if (!this.#isStopping()) this.#begin(this.#spawn(slot));
  }

  #giveUp(lines: readonly string[]): void {
    if (this.#isStopping()) return;
    this.#ending.abort();
    this.#options.log.fatal({ lines }, 'the service gives up');
    this.#failed.reject(new WorkersFailed(lines));
  }

  #tellWhole(): void {
    const ready = this.#running().filter((worker) => worker.ready);
    const checks = ready[0]?.readiness?.checks ?? null;
    const whole = { ready: ready.length, of: this.#slots.length, checks };
    const found = JSON.stringify(whole);
    if (found === this.#told) return;
    this.#told = found;
    for (const worker of this.#running()) worker.tell({ type: 'whole', ...whole });
  }

  async #answer(worker: WorkerProcess, id: number, what: OfAll): Promise<void> {
    const answer = what === 'metrics' ? await this.#renderMetrics() : await this.#status(worker);
    worker.tell({ type: 'answer', id, answer });
  }

  /** One that does not answer in time counts with what it had when it was last asked. */
  #renderMetrics(): Promise<unknown> {
    return this.#metrics.render(() => this.#running());
  }

  async #status(answering: WorkerProcess): Promise<Status | null> {
    const running = this.#running();
    const found = await Promise.all(
      running.map(
        async (worker) => [worker, (await worker.ask('status')) as Status | null] as const,
      ),
    );
    const all = found.flatMap(([, status]) => (status === null ? [] : [status]));
    const own = found.find(([worker]) => worker === answering)?.[1] ?? all[0];
    if (own === undefined) return null;
    const ready = running.find((worker) => worker.ready)?.readiness ?? own.readiness;
    const workers = { ready: running.filter((each) => each.ready).length, of: this.#slots.length };
    const readiness = { ready: ready.ready, checks: [...ready.checks], workers };
    return wholeStatus(own, all, readiness, this.#slots.map(factsOf));
  }
}

function factsOf({ number, worker, restarts }: Slot) {
  const readiness = worker?.readiness ?? null;
  const lacking = readiness?.checks.find(({ ready }) => !ready);
  return {
    worker: number,
    instance: worker?.instance ?? null,
    ready: worker?.ready ?? false,
    state: readiness === null ? 'starting' : (lacking?.state ?? 'ok'),
    uptimeSeconds: worker === null ? 0 : Math.floor((performance.now() - worker.spawnedAt) / 1_000),
    connections: worker?.connections() ?? 0,
    restarts,
  };
}
