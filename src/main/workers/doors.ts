/**
 * The listening sockets of a service with several workers. Nothing is read here: a connection goes to
 * a worker as it came, to the ready one that has fewest, in turn where they have equally many, past one
 * that stands still. One that the worker does not say it has, because it died or stops, goes to another.
 */
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

import type { Config } from '../../config.ts';
import type { ListenerName } from './protocol.ts';
import type { Handed, WorkerProcess } from './worker-process.ts';

/** Connections of one worker on one listener, as for a process that is alone. */
const MAX_CONNECTIONS = 4096;
/** Connections that wait for a worker at most, and how long: while all of them are being replaced. */
const MAX_WAITING = 1024;
const WAIT_MS = 10_000;

interface Waiting extends Handed {
  readonly timer: NodeJS.Timeout;
}

export class Doors {
  readonly #config: Config;
  readonly #workers: () => readonly WorkerProcess[];
  readonly #bound = new Map<ListenerName, Promise<AddressInfo>>();
  readonly #servers: Server[] = [];
  #waiting: Waiting[] = [];
  #turn = 0;
  #closed = false;

  /** @param workers those that run now */
  constructor(config: Config, workers: () => readonly WorkerProcess[]) {
    this.#config = config;
    this.#workers = workers;
  }

  /** Binds once; a listener that could not be bound is tried anew. Rejects with Node's error. */
  bind(listener: ListenerName): Promise<AddressInfo> {
    const known = this.#bound.get(listener);
    if (known !== undefined) return known;
    const bound = this.#listen(listener);
    this.#bound.set(listener, bound);
    bound.catch(() => this.#bound.delete(listener));
    return bound;
  }

  /** Hands on what waits; to be called when a worker listens or becomes ready. */
  serve(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { listener, socket, timer } of waiting) {
      clearTimeout(timer);
      this.accept({ listener, socket });
    }
  }

  accept = (handed: Handed): void => {
    if (this.#closed) {
      handed.socket.destroy();
      return;
    }
    const listening = this.#workers().filter((each) => each.listensTo(handed.listener));
    const ready = listening.filter((each) => each.ready);
    const taking = ready.filter((each) => each.takes);
    // Where none is ready, any of them says so.
    const best = [taking, ready].find((each) => each.length > 0) ?? listening;
    const chosen = this.#choose(best, handed.listener);
    if (chosen !== undefined) chosen.hand(handed);
    else if (listening.length > 0) handed.socket.destroy();
    else this.#wait(handed);
  };

  close(): void {
    this.#closed = true;
    for (const server of this.#servers) server.close();
    this.serve();
  }

  #choose(workers: readonly WorkerProcess[], listener: ListenerName): WorkerProcess | undefined {
    const free = workers.filter((each) => each.connections(listener) < MAX_CONNECTIONS);
    const fewest = Math.min(...free.map((each) => each.connections(listener)));
    const equal = free.filter((each) => each.connections(listener) === fewest);
    this.#turn += 1;
    return equal[this.#turn % equal.length];
  }

  #wait(handed: Handed): void {
    if (this.#waiting.length >= MAX_WAITING) {
      handed.socket.destroy();
      return;
    }
    const timer = setTimeout(() => {
      this.#waiting = this.#waiting.filter(({ socket }) => socket !== handed.socket);
      handed.socket.destroy();
    }, WAIT_MS);
    this.#waiting.push({ ...handed, timer });
  }

  #listen(listener: ListenerName): Promise<AddressInfo> {
    const { host, port } = this.#config[listener] ?? this.#config.http;
    const options = { pauseOnConnect: true, noDelay: true, keepAlive: true, allowHalfOpen: true };
    const server = createServer(options, (socket: Socket) => {
      // A reset while it waits here is its end, and nothing else's.
      socket.on('error', () => undefined);
      this.accept({ listener, socket });
    });
    const { promise, resolve, reject } = Promise.withResolvers<AddressInfo>();
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      this.#servers.push(server);
      resolve(server.address() as AddressInfo);
    });
    return promise;
  }
}
