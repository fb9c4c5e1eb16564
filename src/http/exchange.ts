/** One request and its one answer: ids, headers of every answer, the write, the report. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';

import { ERRORS, TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { discardBody } from './body.ts';
import { holdStallClock } from './stall-clock.ts';
import { problemHeaders, problemOf } from './problem.ts';
import type { RouteContract } from '../contract/route.ts';
import type { RequestReport } from './dependencies.ts';
import type { Rendered } from './render.ts';
import type { Streamed } from './route.ts';

export const REQUEST_ID_HEADER = `${NAME.header}Request-Id`;
export const AUDIT_ID_HEADER = `${NAME.header}Audit-Id`;

type Headers = Readonly<Record<string, string>>;

/** What is sent. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Rendered;
}

const STARTED: Pick<RequestReport, 'code' | 'auditId' | 'error'> = {
  code: null,
  auditId: null,
  error: undefined,
};

/** What an exchange needs of the app that it happens in. */
export interface Surroundings {
  readonly report: (report: RequestReport) => void;
  /** Whether the service stops: further requests are refused. */
  readonly draining: () => boolean;
  /** Whether connections end with the answer under way. */
  readonly parting: () => boolean;
}

export class Exchange {
  /** Made here; one that the caller sent is not trusted and not read. */
  readonly requestId = randomUUID();
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly source: string;
  readonly #contract: RouteContract | null;
  readonly #surroundings: Surroundings;
  /** Monotonic time of its head. */
  readonly started = performance.now();
  /** While the answer is made nothing goes over the connection, however long that takes. */
  readonly #resumeStallClock: () => void;

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    contract: RouteContract | null,
    surroundings: Surroundings,
  ) {
    this.request = request;
    this.response = response;
    this.source = request.socket.remoteAddress ?? '';
    this.#contract = contract;
    this.#surroundings = surroundings;
    this.#resumeStallClock = holdStallClock(request.socket);
  }

  /** Sends an answer and resolves when its secrets may be wiped. */
  async send(answer: Answer, auditId: string | null): Promise<void> {
    await this.#write(
      answer.status,
      { ...answer.headers, ...this.#auditHeader(auditId) },
      answer.body,
    );
    this.#done({ ...STARTED, status: answer.status, auditId });
  }

  /**
   * Writes the head and lets the stream begin; reported is how long that took. The clock that ends a
   * connection over which nothing goes runs again: the stream's signs of life are what resets it, and a
   * reader that takes none of them is cut. The connection ends with the stream.
   */
  stream(streamed: Streamed, auditId: string | null, headers: Headers = {}): void {
    this.#resumeStallClock();
    this.response.writeHead(200, {
      'Content-Type': streamed.mediaType,
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
      [REQUEST_ID_HEADER]: this.requestId,
      Connection: 'close',
      ...headers,
      ...this.#auditHeader(auditId),
    });
    this.#done({ ...STARTED, status: 200, auditId });
    if (this.request.method !== 'HEAD') {
      streamed.begin(this.response);
      return;
    }
    this.response.end();
    streamed.drop();
  }

  /** Sends the problem document of an error. */
  async fail(thrown: unknown, auditId: string | null, headers: Headers = {}): Promise<void> {
    const error = TwofoldError.from(thrown);
    const { status } = ERRORS[error.code];
    const bytes = JSON.stringify(problemOf(error, this.requestId));
    const all = { ...problemHeaders(error), ...headers, ...this.#auditHeader(auditId) };
    // Half an answer cannot become another one: the client sees a connection that was cut.
    if (this.response.headersSent) this.response.destroy();
    else await this.#write(status, all, { bytes, secret: false });
    this.#done({ status, code: error.code, auditId, error: status >= 500 ? error : undefined });
  }

  #auditHeader(auditId: string | null): Headers {
    return auditId === null ? {} : { [AUDIT_ID_HEADER]: auditId };
  }

  async #write(status: number, headers: Headers, { bytes, secret }: Rendered): Promise<void> {
    this.#resumeStallClock();
    try {
      this.response.writeHead(status, {
        'Cache-Control': 'no-store',
        'X-Content-Type-Options': 'nosniff',
        [REQUEST_ID_HEADER]: this.requestId,
        'Content-Length': Buffer.byteLength(bytes),
        ...(this.#surroundings.parting() ? { Connection: 'close' } : {}),
        ...headers,
      });
      await this.#end(bytes);
    } finally {
      if (secret) bytes.fill(0);
    }
  }

  /**
   * Resolves when nothing holds the bytes any more. A buffer waits in the response until those before
   * it on the connection have left, and may be a part of the request's body.
   */
  async #end(bytes: string | Buffer): Promise<void> {
    const { request, response } = this;
    const { socket } = request;
    if (typeof bytes === 'string' || socket.destroyed) {
      response.end(bytes);
      discardBody(request);
      return;
    }
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const gone = () => resolve(undefined);
    // A queued response does not hear of its connection's end; the connection itself does.
    socket.setMaxListeners(0).once('close', gone);
    response.end(bytes, gone);
    discardBody(request);
    await promise;
    socket.off('close', gone);
  }

  #done(outcome: Pick<RequestReport, 'status' | 'code' | 'auditId' | 'error'>): void {
    this.#surroundings.report({
      requestId: this.requestId,
      route: this.#contract?.id ?? null,
      plane: this.#contract?.plane ?? null,
      method: this.request.method ?? '',
      source: this.source,
      milliseconds: performance.now() - this.started,
      ...outcome,
    });
  }
}
