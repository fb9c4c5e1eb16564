/**
 * Answers to what Node's HTTP parser refuses before any route sees it: the same problem documents,
 * written to the socket by hand. Nothing of what was sent is repeated.
 */
import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

import { ERRORS, TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import type { RequestReport } from './dependencies.ts';
import { REQUEST_ID_HEADER } from './exchange.ts';
import { problemHeaders, problemOf } from './problem.ts';

type ParserError = Error & { readonly code?: string };

const REFUSALS: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  HPE_HEADER_OVERFLOW: ['headers_too_large', 'Headers may be at most 16 KiB in all.'],
  ERR_HTTP_REQUEST_TIMEOUT: ['malformed_request', 'The request took too long to arrive.'],
  CONNECT: ['malformed_request', 'This is no proxy.'],
};

function errorOf({ code = '' }: ParserError): TwofoldError {
  const [ours, detail] = REFUSALS[code] ?? ['malformed_request', 'It is not HTTP/1.1.'];
  return new TwofoldError(ours, detail);
}

/**
 * Writes behind the answers that are still under way on the same connection: what their requests did
 * must not be told as a failure of the next one.
 */
function endWith(socket: Socket, text: string): void {
  if (!socket.writable) return;
  const answering = (socket as { _httpMessage?: ServerResponse | null })._httpMessage;
  // A request that is itself cut off has done nothing yet.
  const working = answering?.req.complete === true && !answering.writableFinished;
  if (working) answering.once('finish', () => endWith(socket, text));
  else socket.end(text);
}

/** The whole answer as bytes of HTTP/1.1; the connection ends with it. */
function rawProblem(error: TwofoldError, requestId: string): string {
  const { status } = ERRORS[error.code];
  const body = JSON.stringify(problemOf(error, requestId));
  const headers = {
    ...problemHeaders(error),
    'Cache-Control': 'no-store',
    [REQUEST_ID_HEADER]: requestId,
    'Content-Length': String(Buffer.byteLength(body)),
    Connection: 'close',
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  const reason = STATUS_CODES[status] ?? '';
  return [`HTTP/1.1 ${status} ${reason}`, ...lines, '', body].join('\r\n');
}

/** For `clientError`; `refused` is told of each refusal. */
export function answerMalformed(
  refused: (report: RequestReport) => void,
): (error: ParserError, socket: Socket) => void {
  return (error, socket) => {
    // A reset connection has nobody to answer.
    if (error.code === 'ECONNRESET' || !socket.writable) {
      socket.destroy();
      return;
    }
    const requestId = randomUUID();
    const refusal = errorOf(error);
    refused(reportOf(refusal.code, requestId, socket));
    endWith(socket, rawProblem(refusal, requestId));
  };
}

/** How long a client may take to read why it gets no tunnel. */
const PARTING_MS = 5_000;

/**
 * For `connect`, of which Node would cut the connection without a word to anybody. Its parser has let go
 * of it, so that what becomes of the connection is ours to see to: it ends with the refusal.
 */
export function refuseTunnel(
  malformed: (error: ParserError, socket: Socket) => void,
): (request: IncomingMessage, stream: Duplex) => void {
  return ({ socket }) => {
    const end = () => socket.destroy();
    // What else it sends is read, or the kernel would reset the connection under the answer.
    socket.on('error', end).once('end', end).resume();
    setTimeout(end, PARTING_MS).unref();
    malformed(Object.assign(new Error('CONNECT'), { code: 'CONNECT' }), socket);
  };
}

function reportOf(code: ErrorCode, requestId: string, socket: Socket): RequestReport {
  return {
    requestId,
    route: null,
    plane: null,
    method: '',
    status: ERRORS[code].status,
    code,
    auditId: null,
    source: socket.remoteAddress ?? '',
    milliseconds: 0,
    error: undefined,
  };
}
