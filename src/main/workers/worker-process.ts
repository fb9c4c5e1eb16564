/** One worker as its supervisor sees it: the process, what it said last, and the connections it has. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Readiness } from '../../http/dependencies.ts';
import type { Figures } from '../../telemetry/metrics.ts';
import type { FromWorker, ListenerName, OfOne, ToWorker } from './protocol.ts';

/** How long a question waits: a worker whose event loop stands still must not hold up the others. */
const ANSWER_MS = 2_000;
/** A connection not taken for so long shows a worker that stands still; new ones go to the others. */
const TAKEN_MS = 1_000;

/** Of a connection: where it is to go, and our own hold on it until a worker says that it has it. */
export interface Handed {
  readonly listener: ListenerName;
  readonly socket: Socket;
}

export interface WorkerEvents {
  /** Everything but `taken`, `closed` and answers, which are of this class alone. */
  readonly said: (worker: WorkerProcess, message: FromWorker) => void;
  /** Connections that it will not take after all. */
  readonly returned: (connections: readonly Handed[]) => void;
  readonly ended: (worker: WorkerProcess, how: string) => void;
}

export class WorkerProcess {
  readonly number: number;
  readonly spawnedAt = performance.now();
  readonly #child: ChildProcess;
  readonly #events: WorkerEvents;
  /** In the order in which they were handed over. */
  readonly #handed = new Map<number, Handed & { readonly at: number }>();
  readonly #open = new Map<ListenerName, number>();
  readonly #listening = new Set<ListenerName>();
  readonly #asked = new Map<number, (answer: unknown) => void>();
  readonly #exited = Promise.withResolvers<undefined>();
  #count = 0;
  #complete = false;
  #readiness: Readiness | null = null;
  #instance: string | null = null;
  /** What it counted, as of the last time it was asked. */
  #figures: Figures = [];

  /**
   * The same program with the same flags, environment and limits; it inherits `lock`, so that the data
   * folder stays locked while it lives, and no other descriptor but those of output.
   */
  constructor(number: number, argv: readonly string[], lock: number | null, events: WorkerEvents) {
    this.number = number;
    this.#events = events;
    const [, program = ''] = process.argv;
    this.#child = spawn(process.execPath, [...process.execArgv, program, 'worker', ...argv], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...(lock === null ? [] : [lock])],
    });
    this.#child.on('message', (message) => this.#hear(message as FromWorker));
    this.#child.on('disconnect', () => this.#takeBack());
    const ended = (how: string) => {
      this.#takeBack();
      for (const answer of this.#asked.values()) answer(null);
      this.#exited.resolve(undefined);
      this.#events.ended(this, how);
    };
    this.#child.once('exit', (code, signal) => ended(signal ?? `exit code ${String(code)}`));
    this.#child.once('error', (error) => {
      if (this.#child.pid === undefined) ended(error.message);
    });
  }

  get exited(): Promise<undefined> {
    return this.#exited.promise;
  }

  /** Whether its start was complete at some time. */
  get complete(): boolean {
    return this.#complete;
  }

  get ready(): boolean {
    return this.#readiness?.ready ?? false;
  }

  get readiness(): Readiness | null {
    return this.#readiness;
  }

  get instance(): string | null {
    return this.#instance;
  }

  get lastFigures(): Figures {
    return this.#figures;
  }

  /** Whether it takes what it is given: false of one that is frozen or stopped by its operator. */
  get takes(): boolean {
    const [oldest] = this.#handed.values();
    return oldest === undefined || performance.now() - oldest.at < TAKEN_MS;
  }

  /** Of one listener, or of all. */
  connections(listener?: ListenerName): number {
    if (listener !== undefined) return this.#open.get(listener) ?? 0;
    return [...this.#open.values()].reduce((sum, each) => sum + each, 0);
  }

  listensTo(listener: ListenerName): boolean {
    return this.#child.connected && this.#listening.has(listener);
  }

  tell(message: ToWorker): void {
    // A worker that is gone is noticed by its exit.
    if (this.#child.connected) this.#child.send(message, () => undefined);
  }

  /** Gives it a connection, which comes back by `returned` unless it says that it has it. */
  hand(handed: Handed): void {
    const id = ++this.#count;
    const { listener, socket } = handed;
    this.#handed.set(id, { ...handed, at: performance.now() });
    this.#add(listener, 1);
    const message: ToWorker = { type: 'connection', listener, id };
    this.#child.send(message, socket, { keepOpen: true }, (error) => {
      // One whose channel has closed gives everything back at once; anything else ends this one.
      if (error === null || !this.#child.connected || !this.#handed.delete(id)) return;
      this.#add(listener, -1);
      socket.destroy();
    });
  }

  /** Null when it does not answer in time. */
  async ask(what: OfOne): Promise<unknown> {
    if (!this.#child.connected) return null;
    const id = ++this.#count;
    const { promise, resolve } = Promise.withResolvers<unknown>();
    this.#asked.set(id, resolve);
    this.tell({ type: 'ask', id, what });
    const patience = new AbortController();
    const late = sleep(ANSWER_MS, null, { signal: patience.signal }).catch(() => null);
    const answer = await Promise.race([promise, late]);
    patience.abort();
    this.#asked.delete(id);
    if (what === 'figures' && answer !== null) this.#figures = answer as Figures;
    return answer;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  #add(listener: ListenerName, count: number): void {
    this.#open.set(listener, this.connections(listener) + count);
  }

  #hear(message: FromWorker): void {
    switch (message.type) {
      case 'taken': {
        // It has it; our hold on it goes, and the connection with the worker's.
        this.#handed.get(message.id)?.socket.destroy();
        this.#handed.delete(message.id);
        return;
      }
      case 'closed':
        this.#add(message.listener, -1);
        return;
      case 'answer':
        this.#asked.get(message.id)?.(message.answer);
        return;
      case 'listen':
        this.#listening.add(message.listener);
        break;
      case 'unlisten':
        this.#listening.delete(message.listener);
        this.#takeBack(message.listener);
        break;
      case 'complete':
        this.#complete = true;
        break;
      case 'readiness':
        this.#readiness = message.readiness;
        this.#instance = message.instance;
        break;
      case 'ask':
      case 'waiting':
      case 'failed':
        break;
    }
    this.#events.said(this, message);
  }

  #takeBack(listener?: ListenerName): void {
    const back = [...this.#handed].filter(
      ([, handed]) => listener === undefined || handed.listener === listener,
    );
    for (const [id, handed] of back) {
      this.#handed.delete(id);
      this.#add(handed.listener, -1);
    }
    this.#events.returned(back.map(([, handed]) => handed));
  }
}
