/** The KMS v2 service over gRPC at a unix socket. */
import { Server, ServerCredentials, status as GRPC } from '@grpc/grpc-js';
import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import { createServer } from 'node:net';
import type { Server as NetServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import { wipe } from '../crypto/secret.ts';
import { ERRORS, TwofoldError } from '../errors.ts';
import type { GrpcStatus } from '../errors.ts';
import { Connections } from './connections.ts';
import type { ConnectionTimes } from './connections.ts';
import type { KeyManagement, Patience } from './key-management.ts';
import { KEY_MANAGEMENT_SERVICE } from './protocol.ts';
import type { KeyManagementHandlers } from './protocol.ts';
import { causeOf } from './provider-status.ts';
import { serveSocket } from './socket.ts';
import type { ServedSocket, SocketOptions } from './socket.ts';

export type Method = 'Status' | 'Encrypt' | 'Decrypt';

/** One call, for metrics. */
export interface CallFigures {
  readonly method: Method;
  readonly code: GrpcStatus | 'OK';
  readonly milliseconds: number;
}

export interface KmsServerOptions extends Omit<SocketOptions, 'onWaiting'> {
  readonly management: Pick<KeyManagement, 'status' | 'encrypt' | 'decrypt'>;
  readonly observe: (figures: CallFigures) => void;
  /** Failures of the server itself, for the log. */
  readonly onTrouble: (error: unknown) => void;
  readonly onWaiting?: () => void;
  readonly connections?: ConnectionTimes;
}

/** The largest request: 1,024 bytes of ciphertext and key_id, 32,768 of annotations, and their frame. */
const LARGEST_REQUEST = 65_536;
/** Of one connection; an API server that has more to ask keeps them back until others are answered. */
const MOST_CALLS = 128;
/** For calls under way when the server stops; no longer than they may take. */
const DRAIN_MS = 3_000;
/** For connections that nobody calls on. */
const SILENCE_MS = 250;

/** Exported by the library's server only as what a method returns. */
type ConnectionInjector = ReturnType<Server['createConnectionInjector']>;

type Work<Q, R> = (request: Q, patience: Patience) => Promise<R>;

const patienceOf = (call: ServerUnaryCall<unknown, unknown>): Patience => {
  const deadline = call.getDeadline();
  const at = deadline instanceof Date ? deadline.getTime() : deadline;
  return { milliseconds: Number.isFinite(at) ? at - Date.now() : Infinity };
};

/** What may leave: the code, and the detail where the table lets it; of Status what to do as well. */
const errorOf = (failure: TwofoldError, method: Method) => {
  const { code, detail } = failure;
  const { grpc, exposesDetail, title } = ERRORS[code];
  const said = `${code}: ${exposesDetail ? (detail ?? title) : title}`;
  return { code: GRPC[grpc], details: method === 'Status' ? causeOf(failure) : said };
};

export class KmsServer {
  readonly #options: KmsServerOptions;
  readonly #grpc: Server;
  readonly #injector: ConnectionInjector;
  readonly #listener: NetServer;
  readonly #connections: Connections;
  readonly #stopping = new AbortController();
  #calls = 0;
  #socket: ServedSocket | null = null;
  #serving: Promise<void> = Promise.resolve();

  constructor(options: KmsServerOptions) {
    this.#options = options;
    this.#connections = new Connections(options.connections);
    this.#grpc = new Server({
      'grpc.max_receive_message_length': LARGEST_REQUEST,
      'grpc.max_concurrent_streams': MOST_CALLS,
      // Counts of calls that nothing here shows.
      'grpc.enable_channelz': 0,
    });
    const { management } = options;
    const handlers: KeyManagementHandlers = {
      Status: this.#handler('Status', () => management.status()),
      Encrypt: this.#handler('Encrypt', (request, patience) =>
        management.encrypt(request, patience),
      ),
      Decrypt: this.#handler(
        'Decrypt',
        (request, patience) => management.decrypt(request, patience),
        ({ plaintext }) => wipe(plaintext),
      ),
    };
    this.#grpc.addService(KEY_MANAGEMENT_SERVICE, handlers);
    this.#injector = this.#grpc.createConnectionInjector(ServerCredentials.createInsecure());
    this.#listener = createServer((socket) => {
      this.#connections.add(socket);
      this.#injector.injectConnection(socket);
    });
    this.#listener.on('error', (error) => options.onTrouble(error));
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Whether it stands at its path. */
  get serves(): boolean {
    return this.#socket !== null;
  }

  /**
   * Resolves when it stands at its path, which it may have to wait for. Once it has failed it can be tried again.
   * @throws TwofoldError as `serveSocket`
   */
  serve(): Promise<void> {
    this.#serving = this.#serve();
    return this.#serving;
  }

  async #serve(): Promise<void> {
    const { path, group, onWaiting = () => undefined } = this.#options;
    const socket = { path, group, onWaiting };
    this.#socket = await serveSocket(this.#listener, socket, this.#stopping.signal);
  }

  /** Ends the calls under way in order; its successor then has the path. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#serving.catch(() => undefined);
    // A call that comes now would be turned away: better that nobody finds the path.
    this.#socket?.remove();
    this.#listener.close();
    this.#injector.drain(DRAIN_MS);
    await this.#drained();
    this.#grpc.forceShutdown();
    this.#connections.close();
    this.#socket?.close();
    this.#socket = null;
  }

  /** Connections end once their answers are sent; those without calls are waited for a little only. */
  async #drained(): Promise<void> {
    const until = performance.now() + DRAIN_MS;
    let idleSince = performance.now();
    while (this.#connections.size > 0 && performance.now() < until) {
      if (this.#calls > 0) idleSince = performance.now();
      if (performance.now() - idleSince > SILENCE_MS) return;
      await sleep(5);
    }
  }

  #handler<Q, R>(method: Method, work: Work<Q, R>, sent: (answer: R) => void = () => undefined) {
    return (call: ServerUnaryCall<Q, R>, answer: sendUnaryData<R>): void => {
      void this.#handle(method, call, answer, work, sent);
    };
  }

  async #handle<Q, R>(
    method: Method,
    call: ServerUnaryCall<Q, R>,
    answer: sendUnaryData<R>,
    work: Work<Q, R>,
    sent: (answer: R) => void,
  ): Promise<void> {
    const began = performance.now();
    let code: CallFigures['code'] = 'OK';
    this.#calls += 1;
    try {
      const given = await work(call.request, patienceOf(call));
      answer(null, given);
      // It was made into the bytes that are sent by then.
      sent(given);
    } catch (error) {
      const failure = TwofoldError.from(error);
      code = ERRORS[failure.code].grpc;
      if (code === 'INTERNAL') this.#options.onTrouble(error);
      answer(errorOf(failure, method));
    } finally {
      this.#calls -= 1;
      this.#options.observe({ method, code, milliseconds: performance.now() - began });
    }
  }
}
