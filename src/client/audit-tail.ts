/** Entries of a namespace as the log takes them, over as many connections as it needs. */
import { setTimeout as sleep } from 'node:timers/promises';

import { problem } from '../contract/problem.ts';
import type { AuditLogClient } from './audit-log.ts';
import { ClientError, throwIfAborted } from './client-error.ts';
import { mayComeLater, unexpected } from './http-connection.ts';
import { serverEvents } from './server-events.ts';

const PAUSE_MS = 1_000;

export interface TailOptions {
  /** Parameters of `/v1/audit/stream`. */
  readonly query: URLSearchParams;
  readonly follow: boolean;
  readonly signal: AbortSignal;
  /** The service's default unless given. */
  readonly namespace?: string | undefined;
  /** Told why it connects anew. */
  readonly onInterruption: (error: ClientError) => void;
}

/**
 * Each entry's JSON on one line, each once, in the order of the log. Ends when everything has come, unless
 * it follows: then it connects anew from where it was for as long as that may help.
 * @throws ClientError
 */
export async function* tailEntries(
  log: AuditLogClient,
  { query, follow, signal, onInterruption, namespace }: TailOptions,
): AsyncGenerator<string> {
  let lastId: string | null = null;
  for (;;) {
    throwIfAborted(signal);
    try {
      const answer = await log.stream(query, { lastId, namespace });
      signal.addEventListener('abort', () => answer.destroy(), { once: true });
      for await (const { id, event, data } of serverEvents(answer as AsyncIterable<Buffer>)) {
        if (event === 'problem') throw problemOf(data ?? '');
        if (data !== null) yield data;
        lastId = id === '' ? lastId : id;
      }
      if (!follow) return;
      throw new ClientError('service_unreachable', 'The stream ended.');
    } catch (error) {
      throwIfAborted(signal);
      const failure = asFailure(error);
      if (!mayComeLater(failure)) throw failure;
      onInterruption(failure);
    }
    await sleep(PAUSE_MS, undefined, { signal }).catch(() => undefined);
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
