/** Entries of a namespace as the log takes them, over as many connections as it needs. */
import { setTimeout as sleep } from 'node:timers/promises';

import { problem } from '../contract/problem.ts';
import type { AuditLogClient } from './audit-log.ts';
import { ClientError, throwIfAborted } from './client-error.ts';
import { mayComeLater, unexpected } from './http-connection.ts';
import { serverEvents } from './server-events.ts';

const PAUSE_MS = 1_000;
/** Connections in a row that bring nothing, after which one that does not follow gives up. */
const ATTEMPTS = 5;

export interface TailOptions {
  /** Parameters of `/v1/audit/stream`. */
  readonly query: URLSearchParams;
  readonly follow: boolean;
  readonly signal: AbortSignal;
  /** The service's default unless given. */
  readonly namespace?: string | undefined;
  /** Told why it connects anew. */
  readonly onInterruption: (error: ClientError) => void;
  /** Between two connections, ms; 1,000 unless given. */
  readonly pauseMs?: number;
}

/**
 * Each entry's JSON on one line, each once, in the order of the log. Connects anew from where it was while
 * that may help: when it follows for as long as it takes, else until five connections in a row brought nothing.
 * @throws ClientError
 */
export async function* tailEntries(
  log: AuditLogClient,
  { query, follow, signal, onInterruption, namespace, pauseMs = PAUSE_MS }: TailOptions,
): AsyncGenerator<string> {
  let lastId: string | null = null;
  let inVain = 0;
  for (;;) {
    throwIfAborted(signal);
    inVain += 1;
    let ending: ClientError | null = null;
    try {
      const answer = await log.stream(query, { lastId, namespace });
      signal.addEventListener('abort', () => answer.destroy(), { once: true });
      for await (const { id, event, data } of serverEvents(answer as AsyncIterable<Buffer>)) {
        if (event === 'problem') throw (ending = problemOf(data ?? ''));
        if (data !== null) yield data;
        inVain = 0;
        lastId = id === '' ? lastId : id;
      }
      if (!follow) return;
      throw new ClientError('service_unreachable', 'The stream ended.');
    } catch (error) {
      throwIfAborted(signal);
      const failure = asFailure(error);
      // The token of this connection ended, and the next one may have another: it is read anew.
      const mayGoOn = follow && failure === ending && failure.code === 'token_expired';
      if (!mayGoOn && (!mayComeLater(failure) || (!follow && inVain >= ATTEMPTS))) throw failure;
      onInterruption(failure);
    }
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
  }
}

/** A connection that was cut is an interruption. */
function asFailure(error: unknown): ClientError {
  if (ClientError.is(error)) return error;
  return new ClientError('service_unreachable', 'The stream was cut.', error);
}

function problemOf(data: string): ClientError {
  const parsed = problem.safeParse(JSON.parse(data));
  if (!parsed.success) return unexpected('The stream ended with a problem of no known form.');
  const { code, detail, title } = parsed.data;
  return new ClientError(code, detail ?? title);
}
