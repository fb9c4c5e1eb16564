/**
 * One service over HTTP or HTTPS: requests that are sent until they are answered for good, and answers of
 * bounded length.
 */
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http';

import { problem } from '../contract/problem.ts';
import { concatBytes } from '../crypto/bytes.ts';
import { ERRORS } from '../errors.ts';
import { ClientError, LimitError, throwIfAborted } from './client-error.ts';

/** What the client's side of TLS consists of, PEM. */
export interface TlsIdentity {
  /** Certificates that the service's must descend from; the system's own unless given. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface HttpConnectionOptions {
  /** `http:` or `https:`; a path in it is kept as a prefix. */
  readonly url: URL;
  /**
   * The `Authorization` header of each request, asked for anew each time: tokens end. Null sends none: a
   * client certificate says who asks.
   */
  readonly authorization: () => string | null;
  /** Asked for anew each time; another object than last time makes new connections. */
  readonly identity?: () => TlsIdentity;
  /** Certificates in PEM that the service's must descend from; the system's own unless given. */
  readonly ca?: string;
  readonly signal?: AbortSignal;
  /** How often a request that may succeed later is sent; 4 unless given. */
  readonly attempts?: number;
  /**
   * Longest time from a call to the end of its answer, attempts and pauses included, ms; 120,000 unless given,
   * and 150,000 of a change.
   */
  readonly deadlineMs?: number;
  /** Longest silence, ms; 30,000 unless given, and 150,000 of a change. */
  readonly silenceMs?: number;
}

export const JSON_TYPE = 'application/json';
const SILENCE_MS = 30_000;
/** A change waits for instances with a grace: 120 s and 2 s at most (`audit/grace/waiting.ts`). */
const CHANGE_MS = 150_000;
const DEADLINE_MS = 120_000;
/** Longest answer that is read unless a call says otherwise, bytes. */
const MAX_ANSWER = 1_048_576;
const FIRST_PAUSE_MS = 250;
const DONE: readonly number[] = [200];

export interface Call {
  readonly method: 'GET' | 'POST' | 'PATCH';
  readonly path: string;
  readonly accept: string;
  readonly contentType?: string;
  readonly body?: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  /** Longest answer, bytes; 1 MiB unless given. */
  readonly most?: number;
  /** What it is answered with when it is done; 200 unless given. */
  readonly statuses?: readonly number[];
  /** It changes something, and may wait until every instance has heard of it. */
  readonly changes?: boolean;
  /** Of this call alone. */
  readonly signal?: AbortSignal;
}

export interface Answer {
  readonly status: number;
  /** The caller wipes it where it may hold a secret. */
  readonly body: Uint8Array;
  readonly header: (name: string) => string | undefined;
}

export const unexpected = (detail: string, cause?: unknown) =>
  new ClientError('unexpected_answer', detail, cause);

/** All of a body in one buffer; the pieces it came in are overwritten. */
async function readBody(answer: IncomingMessage, most: number): Promise<Uint8Array> {
  const pieces: Buffer[] = [];
  let length = 0;
  try {
    for await (const piece of answer as AsyncIterable<Buffer>) {
      pieces.push(piece);
      length += piece.length;
      if (length > most) throw unexpected(`The answer is longer than ${most} bytes.`);
    }
    // Not by Buffer.concat, whose pool would keep a copy of the data key.
    return concatBytes(...pieces);
  } finally {
    for (const piece of pieces) piece.fill(0);
  }
}

export function jsonOf(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString('utf8'));
  } catch (error) {
    throw unexpected('The answer is not JSON.', error);
  }
}

/** The service's refusal, under its own code. */
function refusal({ statusCode, headers }: IncomingMessage, body: Uint8Array): ClientError {
  const status = statusCode ?? 0;
  const parsed = problem.safeParse(jsonOf(body));
  if (!parsed.success) return unexpected(`The service answered ${status} without a code.`);
  const { code, detail, title, requestId } = parsed.data;
  const words = `${detail ?? title} (request ${requestId})`;
  // One instance that has too much to do says `rate_limited` too, and names no limit.
  const isLimit = code === 'rate_limited' && headers['ratelimit-policy'] !== undefined;
  return isLimit ? new LimitError(code, words) : new ClientError(code, words);
}

/** Whether the same request may be answered otherwise later. */
export function mayComeLater(error: unknown): boolean {
  if (!ClientError.is(error)) return false;
  if (error.code === 'service_unreachable') return true;
  return error.code in ERRORS && ERRORS[error.code as keyof typeof ERRORS].retryable;
}

export class HttpConnection {
  readonly #options: HttpConnectionOptions;
  #agent: HttpAgent;
  #identity: TlsIdentity;
  readonly #request: (url: URL, options: RequestOptions) => ClientRequest;

  /** @throws ClientError invalid_value for a URL of another scheme */
  constructor(options: HttpConnectionOptions) {
    const { url, ca } = options;
    if (url.protocol !== 'http:' && url.protocol !== 'https:') {
      throw new ClientError('invalid_value', 'The URL of the service is http: or https:.');
    }
    const tls = url.protocol === 'https:';
    this.#options = options;
    this.#request = tls ? httpsRequest : httpRequest;
    this.#identity = ca === undefined ? {} : { ca };
    this.#agent = tls ? tlsAgent(this.#identity) : new HttpAgent({ keepAlive: true });
  }

  /** Closes idle connections, which would keep the process alive. */
  close(): void {
    this.#agent.destroy();
  }

  /**
   * Sends until it is answered for good: no call does harm when it is done twice. One with `If-Match` may meet
   * what its own first attempt wrote.
   */
  async send(call: Call): Promise<Answer> {
    const { attempts = 4, signal } = this.#options;
    const bounded = this.#bounded(call);
    for (let attempt = 1; ; attempt += 1) {
      throwIfAborted(signal);
      try {
        return await this.#attempt(bounded);
      } catch (error) {
        if (attempt < attempts && mayComeLater(error)) {
          // Whatever ends the time ends the pause.
          const pause = FIRST_PAUSE_MS * 2 ** (attempt - 1);
          await sleep(pause, undefined, { signal: bounded.signal }).catch(() => undefined);
          if (!bounded.signal.aborted) continue;
        }
        throwIfAborted(signal);
        throw error;
      }
    }
  }

  /** A service that sends a byte now and then is never silent, and holds nobody up for ever. */
  #bounded(call: Call): Call & { readonly signal: AbortSignal } {
    const { deadlineMs = call.changes === true ? CHANGE_MS : DEADLINE_MS, signal } = this.#options;
    const given = [call.signal, signal].filter((each) => each !== undefined);
    return { ...call, signal: AbortSignal.any([...given, AbortSignal.timeout(deadlineMs)]) };
  }

  /** Where requests go, for people. */
  get origin(): string {
    return this.#options.url.origin;
  }

  /** Sends once. */
  once(call: Call): Promise<Answer> {
    return this.#attempt(this.#bounded(call));
  }

  /** Sends once, for an answer that goes on: the caller reads it, or destroys it. */
  async open(call: Call): Promise<IncomingMessage> {
    const answer = await this.#exchange(call);
    if (answer.statusCode === 200) return answer;
    throw refusal(answer, await this.#read(answer, MAX_ANSWER));
  }

  async #attempt(call: Call): Promise<Answer> {
    const answer = await this.#exchange(call);
    const body = await this.#read(answer, call.most ?? MAX_ANSWER);
    const status = answer.statusCode ?? 0;
    if (!(call.statuses ?? DONE).includes(status)) throw refusal(answer, body);
    const header = (name: string) => {
      const value = answer.headers[name.toLowerCase()];
      return typeof value === 'string' ? value : undefined;
    };
    return { status, body, header };
  }

  #read(answer: IncomingMessage, most: number): Promise<Uint8Array> {
    return readBody(answer, most).catch((error: unknown) => {
      throw ClientError.is(error)
        ? error
        : new ClientError('service_unreachable', undefined, error);
    });
  }

  /** Requests under way end on the connections that they have. */
  #currentAgent(): HttpAgent {
    const { identity, url } = this.#options;
    const now = identity?.() ?? this.#identity;
    if (now === this.#identity || url.protocol === 'http:') return this.#agent;
    retire(this.#agent);
    this.#identity = now;
    this.#agent = tlsAgent(now);
    return this.#agent;
  }

  #exchange(call: Call): Promise<IncomingMessage> {
    const { method, path, accept, contentType, body, headers, changes } = call;
    const { url, authorization, silenceMs = SILENCE_MS } = this.#options;
    const timeout = changes === true ? CHANGE_MS : silenceMs;
    const signal = call.signal ?? this.#options.signal;
    const allowed = authorization();
    const options: RequestOptions = {
      method,
      agent: this.#currentAgent(),
      timeout,
      ...(signal === undefined ? {} : { signal }),
      headers: {
        Accept: accept,
        ...(allowed === null ? {} : { Authorization: allowed }),
        ...(contentType === undefined ? {} : { 'Content-Type': contentType }),
        ...(body === undefined ? {} : { 'Content-Length': body.length }),
        ...headers,
      },
    };
    return new Promise((resolve, reject) => {
      const request = this.#request(new URL(url.pathname.replace(/\/$/u, '') + path, url), options);
      const unreachable = (cause: unknown) => {
        reject(new ClientError('service_unreachable', unreachableAt(url, cause), cause));
      };
      request.once('response', resolve);
      request.on('error', unreachable);
      request.once('timeout', () => request.destroy(new Error('no answer in time')));
      request.end(body);
    });
  }
}

/** Said outright: where NODE_TLS_REJECT_UNAUTHORIZED is 0, Node verifies nothing unless told to. */
function tlsAgent(identity: TlsIdentity): HttpsAgent {
  const verifying = { minVersion: 'TLSv1.3', rejectUnauthorized: true } as const;
  return new HttpsAgent({ keepAlive: true, ...verifying, ...identity });
}

/** Its connections end as soon as nobody uses them. */
function retire(agent: HttpAgent): void {
  agent.maxFreeSockets = 0;
  for (const sockets of Object.values(agent.freeSockets)) {
    for (const socket of sockets ?? []) socket.destroy();
  }
}

function unreachableAt(url: URL, cause: unknown): string {
  const { code } = cause as NodeJS.ErrnoException;
  // Of an interruption the caller knows; otherwise the time is over.
  const why = code === 'ABORT_ERR' ? 'not in time' : code;
  return `The service does not answer at ${url.origin}${why === undefined ? '' : `: ${why}`}.`;
}
