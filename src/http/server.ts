/** The HTTP side of the service: its listeners, how they start, and how they drain. */
import { readFileSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import { Admission } from './admission.ts';
import { createApp } from './app.ts';
import { DEFAULT_LIMITS } from './dependencies.ts';
import { EventStreams } from './event-stream.ts';
import { Exchange } from './exchange.ts';
import { createListener } from './listener.ts';
import { answerMalformed, refuseTunnel } from './malformed.ts';
import { Pipeline } from './pipeline.ts';
import { allRoutes } from './routes.ts';
import { monitoringRoutes } from './status.ts';
import type { Plane } from '../contract/route.ts';
import { TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import type { AppParts } from './app.ts';
import type { HttpDependencies, HttpLimits } from './dependencies.ts';
import type { Handlers, Listener, ListenerOptions, TlsOptions } from './listener.ts';
import type { Document } from './route.ts';

export interface HttpServerOptions {
  readonly http: ListenerOptions;
  /** A listener of its own for `/v1/admin`, which the main one then does not serve. */
  readonly admin?: ListenerOptions;
  /** `GET /metrics` and the status page at `/`; not served when absent. */
  readonly metrics?: ListenerOptions;
  readonly limits?: Partial<HttpLimits>;
  /** Of uses; one of its own unless given. */
  readonly admission?: Admission;
  /** Longest wait for open requests while stopping, ms; 10,000 unless told. */
  readonly drainMs?: number;
}

/** Where the listeners are bound; null for those that were not asked for. */
export interface HttpAddresses {
  readonly http: AddressInfo;
  readonly admin: AddressInfo | null;
  readonly metrics: AddressInfo | null;
}

export interface HttpServer {
  /**
   * Binds all listeners; when one cannot be bound, closes the others and rejects.
   * @throws TwofoldError `conflict` when an address is taken, `invalid_value` when it may not be had
   */
  listen(): Promise<HttpAddresses>;
  /** Replaces the certificate of a listener that serves TLS; see `Listener.setTls`. */
  setTls(listener: keyof HttpAddresses, tls: TlsOptions): void;
  /** The bound addresses. Throws before `listen` has resolved. */
  address(): HttpAddresses;
  /** From now on each answer ends its connection: clients that keep theirs go elsewhere meanwhile. */
  part(): void;
  /**
   * Answers further requests with 503 `shutting_down` (after `part` only what comes when the listeners close),
   * waits for those under way, closes everything. Idempotent.
   */
  close(): Promise<void>;
}

const DRAIN_MS = 10_000;
const LINGER_MS = 100;

/** As bytes: a string of it takes twice as much of V8's heap, and is encoded for each who asks. */
const readDocument = () => readFileSync(new URL('../../openapi.yaml', import.meta.url));

/** Serves Prometheus text at `/metrics`; the rest is the monitoring app's. */
function metricsHandler(
  metrics: HttpDependencies['metrics'],
  monitoring: RequestListener,
): RequestListener {
  return (request, response) => {
    if (request.url !== '/metrics' || request.method !== 'GET') {
      monitoring(request, response);
      return;
    }
    metrics().then(
      ({ contentType, body }) => response.writeHead(200, { 'Content-Type': contentType }).end(body),
      () => response.writeHead(500).end(),
    );
  };
}

const NOT_BOUND: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  EADDRINUSE: ['conflict', 'is in use by another process'],
  EACCES: ['invalid_value', 'may not be bound by this user'],
  EADDRNOTAVAIL: ['invalid_value', 'is no address of this host'],
};

/** Where its port is said. */
const OPTION: Readonly<Record<keyof HttpAddresses, string>> = {
  http: '--port',
  admin: '--admin-port',
  metrics: '--metrics-port',
};

/** What an operator can do something about, in words; anything else as it is. */
function notBound(listener: keyof HttpAddresses, error: unknown): unknown {
  const { code = '', address = '', port = 0 } = error as Partial<ListenFailure>;
  const known = NOT_BOUND[code];
  if (known === undefined) return error;
  const [errorCode, problem] = known;
  const instead = code === 'EADDRINUSE' ? `; ${OPTION[listener]} takes another, 0 a free one` : '';
  const detail = `The ${listener} listener cannot start: ${address}:${String(port)} ${problem}${instead}.`;
  return new TwofoldError(errorCode, detail, { cause: error });
}

/** What Node says of an address that cannot be bound. */
interface ListenFailure {
  readonly code: string;
  readonly address: string;
  readonly port: number;
}

interface Named {
  readonly name: keyof HttpAddresses;
  readonly listener: Listener;
}

class Listeners implements HttpServer {
  readonly #listeners: readonly Named[];
  readonly #drainMs: number;
  readonly #drain: () => void;
  readonly #part: () => void;
  #parted = false;
  #addresses: HttpAddresses | undefined;
  #closed: Promise<void> | undefined;

  constructor(
    listeners: readonly Named[],
    drainMs: number,
    stop: { readonly part: () => void; readonly drain: () => void },
  ) {
    this.#listeners = listeners;
    this.#drainMs = drainMs;
    this.#drain = stop.drain;
    this.#part = stop.part;
  }

  async listen(): Promise<HttpAddresses> {
    const bound: Record<string, AddressInfo> = {};
    try {
      for (const { name, listener } of this.#listeners) {
        bound[name] = await listener.listen().catch((error: unknown) => {
          throw notBound(name, error);
        });
      }
    } catch (error) {
      await this.#closeAll();
      throw error;
    }
    const { http, admin = null, metrics = null } = bound;
    if (http === undefined) throw new Error('the main listener is missing');
    this.#addresses = { http, admin, metrics };
    return this.#addresses;
  }

  setTls(name: keyof HttpAddresses, tls: TlsOptions): void {
    const found = this.#listeners.find((each) => each.name === name);
    if (found === undefined) throw new TypeError('there is no such listener');
    found.listener.setTls(tls);
  }

  address(): HttpAddresses {
    if (this.#addresses === undefined) throw new Error('the server is not listening');
    return this.#addresses;
  }

  part(): void {
    this.#parted = true;
    this.#part();
  }

  close(): Promise<void> {
    this.#closed ??= this.#closeAll();
    return this.#closed;
  }

  async #closeAll(): Promise<void> {
    // Requests on their way over open connections are still answered, or told 503 where nobody was told that
    // connections end; a closed one would be reset.
    if (!this.#parted) this.#drain();
    if (this.#addresses !== undefined) await sleep(LINGER_MS);
    if (this.#parted) this.#drain();
    await Promise.all(this.#listeners.map(({ listener }) => listener.close(this.#drainMs)));
  }
}

/** Requests that reach no route: counted and reported like the others. */
function handlersOf(deps: HttpDependencies, parts: AppParts): Omit<Handlers, 'request'> {
  const malformed = answerMalformed((report) => {
    deps.audit.countAnonymous(report.source, report.code ?? '');
    deps.report(report);
  });
  return {
    malformed,
    tunnel: refuseTunnel(malformed),
    unexpected: (request, response) => {
      const exchange = new Exchange(request, response, null, parts);
      const error = new TwofoldError('malformed_request', 'Expect takes 100-continue only.');
      void parts.pipeline.refuse(exchange, error, { Connection: 'close' });
    },
  };
}

/**
 * Composes routes, pipeline and listeners; nothing is bound before `listen`.
 * @param document what `/openapi.yaml` answers; the committed file unless given
 */
export function createHttpServer(
  deps: HttpDependencies,
  options: HttpServerOptions,
  document: Document['text'] = readDocument(),
): HttpServer {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const streams = new EventStreams(deps, limits);
  let [parting, draining] = [false, false];
  const parts: AppParts = {
    pipeline: new Pipeline(deps, limits),
    admission: options.admission ?? new Admission(),
    report: deps.report,
    draining: () => draining,
    parting: () => parting || draining || deps.parting?.() === true,
  };
  const routes = allRoutes(deps, limits, document, streams);
  const others = handlersOf(deps, parts);
  const app = (planes: readonly Plane[]): RequestListener => createApp(routes, planes, parts);
  const listener = (at: ListenerOptions, request: RequestListener) =>
    createListener(at, limits, { request, ...others });
  const { http, admin, metrics } = options;
  const own = admin === undefined ? (['use', 'admin', 'public'] as const) : USE_ONLY;
  const listeners: Named[] = [{ name: 'http', listener: listener(http, app(own)) }];
  if (admin !== undefined) {
    listeners.push({ name: 'admin', listener: listener(admin, app(['admin', 'public'])) });
  }
  if (metrics !== undefined) {
    const monitoring = createApp(monitoringRoutes(deps), ['monitoring'], parts);
    listeners.push({
      name: 'metrics',
      listener: listener(metrics, metricsHandler(deps.metrics, monitoring)),
    });
  }
  return new Listeners(listeners, options.drainMs ?? DRAIN_MS, {
    part: () => {
      parting = true;
    },
    drain: () => {
      draining = true;
      streams.close();
    },
  });
}

const USE_ONLY: readonly Plane[] = ['use', 'public'];
