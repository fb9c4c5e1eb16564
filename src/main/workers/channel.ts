/** A worker's side of what it shares with its supervisor: connections, questions, the state of the whole. */
import { Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

import type { Status } from '../../contract/status.ts';
import { TwofoldError } from '../../errors.ts';
import type { ConnectionSource } from '../../http/listener.ts';
import type { Readiness } from '../../http/dependencies.ts';
import type { Rendered } from '../../telemetry/metrics.ts';
import type { Membership, OwnFacts } from './membership.ts';
import type {
  Begin,
  FromWorker,
  ListenerName,
  OfAll,
  OfOne,
  ToWorker,
  WholeState,
} from './protocol.ts';

/** How often a change of readiness is looked for. */
const LOOK_MS = 200;

interface Door {
  readonly take: (socket: Socket) => void;
  readonly bound: PromiseWithResolvers<AddressInfo>;
}

export class WorkerChannel {
  readonly #begun = Promise.withResolvers<Begin>();
  readonly #stopAsked = Promise.withResolvers<undefined>();
  readonly #haste = new AbortController();
  readonly #doors = new Map<ListenerName, Door>();
  readonly #asked = new Map<number, PromiseWithResolvers<unknown>>();
  #own: OwnFacts | undefined;
  #whole: WholeState | undefined;
  #ready = false;
  #questions = 0;
  #onReload: () => void = () => undefined;

  private constructor() {
    process.on('message', (message, handle) => {
      this.#hear(message as ToWorker, handle instanceof Socket ? handle : undefined);
    });
    // A supervisor that was killed: nobody accepts or looks after us any more.
    process.once('disconnect', () => this.#stop(true));
  }

  /** @throws TwofoldError invalid_value in a process that no supervisor started */
  static open(): WorkerChannel {
    if (process.send === undefined) {
      throw new TwofoldError('invalid_value', 'Workers are started by `serve --workers` alone.');
    }
    return new WorkerChannel();
  }

  /** What this worker is; null when a stop came first. */
  begun(): Promise<Begin | null> {
    return Promise.race([this.#begun.promise, this.#stopAsked.promise.then(() => null)]);
  }

  get stopAsked(): Promise<undefined> {
    return this.#stopAsked.promise;
  }

  /** Aborts when a stop is not to wait for anything. */
  get hastened(): AbortSignal {
    return this.#haste.signal;
  }

  /** What a reload calls from now on. */
  set onReload(reload: () => void) {
    this.#onReload = reload;
  }

  tell(message: FromWorker): void {
    // What a supervisor that is gone does not hear is no failure: `disconnect` says so.
    if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
  }

  membership(begin: Begin): Membership {
    return {
      ...begin,
      source: (listener) => this.#source(listener),
      share: (own) => this.#share(own),
      readiness: (own) => this.#readiness(own, begin),
      parting: () => !this.#ready && (this.#whole?.checks ?? null) !== null,
      metrics: () => this.#ask('metrics') as Promise<Rendered>,
      status: () => this.#ask('status') as Promise<Status>,
    };
  }

  /** After this the channel keeps the process no longer. */
  close(): void {
    if (process.connected) process.disconnect?.();
  }

  #stop(hasten: boolean): void {
    if (hasten) this.#haste.abort();
    this.#stopAsked.resolve(undefined);
    const gone = new TwofoldError('shutting_down');
    for (const { reject } of this.#asked.values()) if (hasten) reject(gone);
  }

  #source(listener: ListenerName): ConnectionSource {
    return {
      open: (take) => {
        const bound = Promise.withResolvers<AddressInfo>();
        this.#doors.set(listener, { take, bound });
        this.tell({ type: 'listen', listener });
        return bound.promise;
      },
      close: () => {
        this.#doors.delete(listener);
        this.tell({ type: 'unlisten', listener });
      },
    };
  }

  #share(own: OwnFacts): () => void {
    this.#own = own;
    let told = '';
    const look = () => {
      const readiness = own.readiness();
      this.#ready = readiness.ready;
      const found = JSON.stringify(readiness);
      if (found === told) return;
      told = found;
      this.tell({ type: 'readiness', readiness, instance: own.instance });
    };
    look();
    const timer = setInterval(look, LOOK_MS).unref();
    return () => {
      clearInterval(timer);
      this.#own = undefined;
    };
  }

  /** What a ready worker found says more of the whole than what this one lacks. */
  #readiness(own: Readiness, { of }: Begin): Readiness {
    const { ready = 0, checks = null } = this.#whole ?? {};
    const workers = { ready: Math.max(ready, own.ready ? 1 : 0), of };
    if (own.ready || checks === null) return { ...own, workers };
    return { ready: true, checks, workers };
  }

  #ask(what: OfAll): Promise<unknown> {
    const id = ++this.#questions;
    const answer = Promise.withResolvers<unknown>();
    this.#asked.set(id, answer);
    this.tell({ type: 'ask', id, what });
    if (!process.connected) answer.reject(new TwofoldError('shutting_down'));
    return answer.promise.finally(() => this.#asked.delete(id));
  }

  #hear(message: ToWorker, socket: Socket | undefined): void {
    switch (message.type) {
      case 'begin':
        this.#begun.resolve(message);
        break;
      case 'connection':
        this.#take(message.listener, message.id, socket);
        break;
      case 'bound':
        this.#doors.get(message.listener)?.bound.resolve(message.address);
        break;
      case 'not-bound': {
        const { message: words, ...facts } = message.failure;
        this.#doors.get(message.listener)?.bound.reject(Object.assign(new Error(words), facts));
        break;
      }
      case 'whole':
        this.#whole = message;
        break;
      case 'ask':
        void this.#answer(message.id, message.what);
        break;
      case 'answer':
        this.#asked.get(message.id)?.resolve(message.answer);
        break;
      case 'reload':
        this.#onReload();
        break;
      case 'stop':
        this.#stop(message.hasten);
        break;
    }
  }

  #take(listener: ListenerName, id: number, socket: Socket | undefined): void {
    const door = this.#doors.get(listener);
    if (door === undefined) {
      // It comes back to the supervisor, which holds it too, by the word that this door is closed.
      socket?.destroy();
      return;
    }
    this.tell({ type: 'taken', id });
    if (socket === undefined) {
      this.tell({ type: 'closed', listener });
      return;
    }
    socket.once('close', () => this.tell({ type: 'closed', listener }));
    door.take(socket);
  }

  async #answer(id: number, what: OfOne): Promise<void> {
    const own = this.#own;
    const found = what === 'figures' ? await own?.figures() : own?.status();
    this.tell({ type: 'answer', id, answer: found ?? null });
  }
}
