/**
 * Answers to what Node's HTTP parser refuses before any route sees it: the same problem documents,
 * written to the socket by hand. Nothing of what was sent is repeated.
 */
import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

import { ERRORS, TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { REQUEST_ID_HEADER } from './exchange.ts';
import { problemHeaders, problemOf } from './problem.ts';

type ParserError = Error & { readonly code?: string };

const REFUSALS: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  HPE_HEADER_OVERFLOW: ['headers_too_large', 'Headers may be at most 16 KiB in all.'],
  ERR_HTTP_REQUEST_TIMEOUT: ['malformed_request', 'The request took too long to arrive.'],
};

function errorOf({ code = '' }: ParserError): TwofoldError {
  const [ours, detail] = REFUSALS[code] ?? ['malformed_request', 'It is not HTTP/1.1.'];
  return new TwofoldError(ours, detail);
}

/**
 * Writes behind an answer that is still under way on the same connection: what that request did must
 * not be told as a failure of the next one.
 */
function endWith(socket: Socket, text: string): void {
  const answering = (socket as { _httpMessage?: ServerResponse | null })._httpMessage;
  // A request that is itself cut off has done nothing yet.
  const working = answering?.req.complete === true && !answering.writableFinished;
  if (!working) {
    socket.end(text);
    return;
  }
  answering.once('finish', () => {
    if (socket.writable) socket.end(text);
  });
}

/** For `checkExpectation`: an expectation other than `100-continue`. */
export function answerUnexpected({ socket }: { readonly socket: Socket }): void {
  endWith(
    socket,
    rawProblem(new TwofoldError('malformed_request', 'Expect takes 100-continue only.')),
  );
}

/** The whole answer as bytes of HTTP/1.1; the connection ends with it. */
export function rawProblem(error: TwofoldError): string {
  const requestId = randomUUID();
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

/** For `clientError`; `count` is told the source and code. */
export function answerMalformed(
  count: (source: string, code: string) => void,
): (error: ParserError, socket: Socket) => void {
  return (error, socket) => {
    // A reset connection has nobody to answer.
    if (error.code === 'ECONNRESET' || !socket.writable) {
      socket.destroy();
      return;
    }
    const refusal = errorOf(error);
    count(socket.remoteAddress ?? '', refusal.code);
    endWith(socket, rawProblem(refusal));
  };
}
