/**
 * Reads request bodies: bounded in size and time, and only when asked to, so that a caller without
 * permission makes us read nothing.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';

import { TwofoldError } from '../errors.ts';

export interface BodyLimits {
  readonly bytes: number;
  readonly timeoutMs: number;
}

/** What is still taken of a body whose request was refused, so that the client can read why. */
const DISCARD_BYTES = 16 * 1024 * 1024;
const DISCARD_MS = 5000;

/** Whether the head announces a body. */
export function hasBody(request: IncomingMessage): boolean {
  const length = request.headers['content-length'];
  return request.headers['transfer-encoding'] !== undefined || (length ?? '0') !== '0';
}

function tooLarge(limit: number): TwofoldError {
  return new TwofoldError('body_too_large', `The body may be at most ${limit} bytes long here.`);
}

/**
 * The whole body in one buffer, which the caller wipes. Chunks are wiped once copied.
 * @throws TwofoldError body_too_large (before reading, when the length is announced),
 *   malformed_request when the body ends early or takes too long
 */
export function readBody(
  request: IncomingMessage,
  response: ServerResponse,
  limits: BodyLimits,
): Promise<Buffer> {
  const coding = request.headers['transfer-encoding'];
  if (coding !== undefined && coding.toLowerCase() !== 'chunked') {
    const detail = 'The only transfer coding taken here is chunked.';
    return Promise.reject(new TwofoldError('malformed_request', detail));
  }
  const announced = Number(request.headers['content-length'] ?? 0);
  if (announced > limits.bytes) return Promise.reject(tooLarge(limits.bytes));
  // Only now is the client told to send it.
  if (request.headers.expect !== undefined) response.writeContinue();
  return collect(request, limits);
}

const endedEarly = () => new TwofoldError('malformed_request', 'The body ended early.');

function collect(request: IncomingMessage, limits: BodyLimits): Promise<Buffer> {
  // It would tell of nothing any more, and the whole time for a body would pass.
  if (request.destroyed) return Promise.reject(endedEarly());
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const chunks: Buffer[] = [];
  let size = 0;
  const onData = (chunk: Buffer) => {
    chunks.push(chunk);
    size += chunk.length;
    if (size > limits.bytes) finish(tooLarge(limits.bytes));
  };
  const onEnd = () => finish();
  const onCut = () => finish(endedEarly());
  const timer = setTimeout(() => {
    finish(new TwofoldError('malformed_request', 'The body took too long.'));
  }, limits.timeoutMs);
  const finish = (error?: TwofoldError) => {
    clearTimeout(timer);
    request.off('data', onData).off('end', onEnd).off('close', onCut).off('error', onCut);
    if (error === undefined) {
      resolve(joinAndWipe(chunks));
      return;
    }
    for (const chunk of chunks) chunk.fill(0);
    reject(error);
  };
  request.on('data', onData).on('end', onEnd).on('close', onCut).on('error', onCut);
  return promise;
}

function joinAndWipe(chunks: readonly Buffer[]): Buffer {
  const [only] = chunks;
  if (chunks.length === 1 && only !== undefined) return only;
  const whole = Buffer.concat(chunks);
  for (const chunk of chunks) chunk.fill(0);
  return whole;
}

/**
 * Lets a refused body pass by unread, up to a bound in bytes and time; then the connection ends.
 * Closing at once would often lose the answer: the kernel resets a connection with unread data.
 */
export function discardBody(request: IncomingMessage): void {
  if (request.complete || request.destroyed || !hasBody(request)) return;
  let size = 0;
  const timer = setTimeout(() => request.destroy(), DISCARD_MS).unref();
  request.on('data', (chunk: Buffer) => {
    size += chunk.length;
    chunk.fill(0);
    if (size > DISCARD_BYTES) request.destroy();
  });
  request.once('close', () => clearTimeout(timer));
  request.on('error', () => request.destroy());
}
