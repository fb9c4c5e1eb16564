/** One listening socket: plain HTTP or TLS 1.3, with its limits, and how it drains. */
import { constants } from 'node:crypto';
import { createServer as createPlain } from 'node:http';
import { Server as TlsServer, createServer as createTls } from 'node:https';
import type { IncomingMessage, RequestListener, Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { createSecureContext } from 'node:tls';

import { sourceGroup } from '../audit/anonymous.ts';
import { boundHandshakes } from './handshakes.ts';
import { Places } from './places.ts';

/** PEM texts, not file names. */
export interface TlsOptions {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  /** Authorities of client certificates; without them none is asked for. */
  readonly ca?: string | Buffer;
  /** Clients may have a certificate of whomever: who is believed is decided by who authenticates them. */
  readonly clients?: 'request' | undefined;
}

/** Where to listen. */
export interface ListenerOptions {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  readonly tls?: TlsOptions;
  /** Instead of a socket of this process. */
  readonly source?: ConnectionSource;
}

/** Where connections come from that another process accepted: open, and nothing of them read. */
export interface ConnectionSource {
  /** Where that process listens. Rejects as a `listen` of ours would. */
  open(take: (socket: Socket) => void): Promise<AddressInfo>;
  /** No more come. */
  close(): void;
}

export interface Listener {
  listen(): Promise<AddressInfo>;
  /**
   * Connections from now on get this certificate and no session of the former one; those that are open,
   * or have begun their handshake, go on. Whether clients are asked for certificates stays as it was.
   *
   * @throws Error when it is no identity, or the listener serves no TLS
   */
  setTls(tls: TlsOptions): void;
  /** Takes no new connections, waits for open requests up to the deadline, then cuts them. */
  close(deadlineMs: number): Promise<void>;
}

export interface ConnectionLimits {
  /**
   * Longest time in which nothing comes or goes on a connection, ms, but while an answer is being made
   * (`stall-clock.ts`): what it ends is a client that does not read.
   */
  readonly stalledMs: number;
  /**
   * Open at once: a further one takes the place of another (`places.ts`). Unless given they are `MAX_CONNECTIONS`,
   * and further ones are closed.
   */
  readonly connections?: number;
}

/** What a listener does with what it hears. */
export interface Handlers {
  readonly request: RequestListener;
  /** Of `Expect` with anything but `100-continue`. */
  readonly unexpected: RequestListener;
  /** What Node's parser refuses. */
  readonly malformed: (error: Error & { code?: string }, socket: Socket) => void;
  /** Of CONNECT; the connection is its own from then on. Node cuts it unless given. */
  readonly tunnel?: (request: IncomingMessage, socket: Duplex) => void;
}

/** Bytes of a request's head. */
const MAX_HEADER_BYTES = 16 * 1024;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
/** Above what load balancers keep idle connections for, so that they close first. */
const KEEP_ALIVE_MS = 65_000;
const MAX_CONNECTIONS = 4096;
const HANDSHAKE_TIMEOUT_MS = 10_000;
/**
 * The hybrid groups (draft-ietf-tls-ecdhe-mlkem) stand in a tuple of their own: a client that has one
 * is asked for it by a retry although it offered a classical share first; the rest is for clients
 * that have none.
 */
const GROUPS = 'X25519MLKEM768:SecP256r1MLKEM768/X25519:P-256:P-384';

const SERVER_OPTIONS = {
  maxHeaderSize: MAX_HEADER_BYTES,
  headersTimeout: HEADERS_TIMEOUT_MS,
  requestTimeout: REQUEST_TIMEOUT_MS,
  connectionsCheckingInterval: 1000,
  keepAliveTimeout: KEEP_ALIVE_MS,
  keepAlive: true,
  // Node's own refusal has no problem document; `declaredHeaders` refuses in its place.
  requireHostHeader: false,
} as const;

/** All of it is given with every certificate: what `setSecureContext` is not told falls back to Node's own. */
const contextOf = ({ cert, key, ca, clients }: TlsOptions) =>
  ({
    ...{ cert, key, ...(ca === undefined ? {} : { ca }) },
    minVersion: 'TLSv1.3',
    ecdhCurve: GROUPS,
    honorCipherOrder: true,
    // A session of a client that was not asked for its certificate would be one without it for hours.
    ...(clients === 'request' ? { secureOptions: constants.SSL_OP_NO_TICKET } : {}),
  }) as const;

function createServer({ tls }: ListenerOptions, handler: RequestListener): Server {
  if (tls === undefined) return createPlain(SERVER_OPTIONS, handler);
  const server = createTls(
    {
      ...SERVER_OPTIONS,
      ...contextOf(tls),
      requestCert: tls.ca !== undefined || tls.clients === 'request',
      rejectUnauthorized: tls.clients !== 'request',
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    },
    handler,
  );
  if (tls.clients === 'request') boundHandshakes(server);
  return server;
}

function setTls(server: Server, tls: TlsOptions): void {
  if (!(server instanceof TlsServer)) throw new TypeError('the listener serves no TLS');
  const context = contextOf(tls);
  // `setSecureContext` changes the server before it finds that it cannot use what it was given.
  createSecureContext(context);
  server.setSecureContext(context);
}

function boundConnections(server: Server, most: number): void {
  const places = new Places<Socket>(most);
  server.on('connection', (socket: Socket) => {
    places.take(socket, sourceGroup(socket.remoteAddress ?? ''))?.destroy();
    socket.once('close', () => places.leave(socket));
  });
}

export function createListener(
  options: ListenerOptions,
  { stalledMs, connections }: ConnectionLimits,
  { request, unexpected, malformed, tunnel }: Handlers,
): Listener {
  const server = createServer(options, request);
  server.maxConnections = MAX_CONNECTIONS;
  server.timeout = stalledMs;
  if (connections !== undefined) boundConnections(server, connections);
  server.on('clientError', malformed);
  if (tunnel !== undefined) server.on('connect', tunnel);
  // The body of `Expect: 100-continue` is asked for when it is read, after permission.
  server.on('checkContinue', request);
  server.on('checkExpectation', unexpected);
  if (options.source !== undefined) return new HandedListener(server, options.source);
  return {
    listen: () => listen(server, options),
    setTls: (tls) => setTls(server, tls),
    close: (deadlineMs) => close(server, deadlineMs),
  };
}

/** A server over connections that are handed to this process one by one. */
class HandedListener implements Listener {
  readonly #server: Server;
  readonly #source: ConnectionSource;
  readonly #open = new Set<Socket>();
  #emptied: () => void = () => undefined;
  #listening = false;

  constructor(server: Server, source: ConnectionSource) {
    this.#server = server;
    this.#source = source;
  }

  async listen(): Promise<AddressInfo> {
    // Without it, a server keeps no list of its connections: no deadline would end a slow request.
    this.#server.emit('listening');
    const address = await this.#source.open((socket) => this.#take(socket));
    this.#listening = true;
    return address;
  }

  setTls(tls: TlsOptions): void {
    setTls(this.#server, tls);
  }

  async close(deadlineMs: number): Promise<void> {
    if (!this.#listening) return;
    this.#source.close();
    const emptied = new Promise<void>((resolve) => {
      this.#emptied = resolve;
    });
    const timer = setTimeout(() => {
      this.#server.closeAllConnections();
      // What has not said a word yet is in no list of the server's.
      for (const socket of this.#open) socket.destroy();
    }, deadlineMs);
    this.#server.closeIdleConnections();
    if (this.#open.size > 0) await emptied;
    clearTimeout(timer);
  }

  #take(socket: Socket): void {
    this.#open.add(socket);
    socket.once('close', () => {
      this.#open.delete(socket);
      if (this.#open.size === 0) this.#emptied();
    });
    this.#server.emit('connection', socket);
  }
}

function listen(server: Server, { host, port }: ListenerOptions): Promise<AddressInfo> {
  const { promise, resolve, reject } = Promise.withResolvers<AddressInfo>();
  server.once('error', reject);
  server.listen({ host, port }, () => {
    server.off('error', reject);
    resolve(server.address() as AddressInfo);
  });
  return promise;
}

function close(server: Server, deadlineMs: number): Promise<void> {
  if (!server.listening) return Promise.resolve();
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => server.closeAllConnections(), deadlineMs);
  server.close(() => {
    clearTimeout(timer);
    resolve(undefined);
  });
  server.closeIdleConnections();
  return promise;
}
