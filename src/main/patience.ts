/** A start waits for a database that is still starting or busy; one that refuses us ends it at once. */
import { setTimeout as sleep } from 'node:timers/promises';

import { TwofoldError } from '../errors.ts';
import { sqlState } from '../store/outcome.ts';
import type { Unwinding } from './unwinding.ts';

/** deploy/twofold.service tells by it a start without a database from one that cannot succeed. */
export const PATIENCE_MS = 30_000;
const PAUSE_MS = 250;
/** Classes of SQLSTATE: wrong password or role, and no such database. */
const REFUSED = /^(?:28|3D)/u;
/** Node's codes and pg's words for a certificate that is not trusted, and for a server without TLS. */
const UNTRUSTED = /CERT|UNABLE_TO_VERIFY|ERR_TLS|does not support SSL/u;

/**
 * Repeats `act`, which must be safe to repeat, while the database does not answer and no stop has
 * begun; `onWait` is told once.
 * @throws what `act` threw: at once when it is anything else, `database_unavailable` in the end
 */
export async function whenReachable<T>(
  act: () => Promise<T>,
  unwinding: Unwinding,
  onWait: (error: unknown) => void = () => undefined,
): Promise<T> {
  const until = performance.now() + PATIENCE_MS;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await act();
    } catch (error) {
      if (!TwofoldError.is(error, 'database_unavailable')) throw error;
      if (REFUSED.test(sqlState(error) ?? '') || isUntrusted(error.cause)) throw refused(error);
      if (unwinding.begun || performance.now() > until) throw error;
      if (attempt === 1) onWait(error);
      await sleep(PAUSE_MS);
    }
  }
}

const isUntrusted = (cause: unknown): boolean =>
  cause instanceof Error &&
  UNTRUSTED.test(`${'code' in cause ? String(cause.code) : ''} ${cause.message}`);

/** PostgreSQL's own words name role and database, never a password. */
function refused(error: TwofoldError): TwofoldError {
  const words = error.cause instanceof Error ? error.cause.message : '';
  return new TwofoldError('database_unavailable', `The database refuses us: ${words}.`, {
    cause: error,
  });
}
