/**
 * What the database's refusals mean. SQLSTATEs of class TF are raised by the functions of the
 * migrations; the first lists most of them; lost connections and unknown outcomes have been classified before
 * (`outcome.ts`).
 */
import { TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { LaneLost } from '../outcome.ts';
import type { LaneLoss } from '../outcome.ts';
import { sqlState } from './outcome.ts';

const CODES: Readonly<Record<string, ErrorCode>> = {
  TF006: 'conflict',
  TF007: 'key_exists',
  TF008: 'name_retired',
  TF009: 'idempotency_in_progress',
  TF010: 'database_unavailable',
  TF011: 'database_unavailable',
  TF012: 'database_unavailable',
  TF013: 'quota_exceeded',
  TF014: 'version_not_usable',
  TF020: 'namespace_not_empty',
  TF026: 'quota_exceeded',
  TF029: 'import_parameters_used',
  TF063: 'conflict',
  /** Unique violation: the version was made meanwhile. */
  '23505': 'conflict',
};

/** How a lane can be lost: it or its last entries are gone, or it is closed. */
const LANE_LOSSES: Readonly<Record<string, LaneLoss>> = {
  TF001: 'gone',
  TF002: 'closed',
  TF003: 'gone',
  TF040: 'conflict',
};
/** The instance that writes has no row any more, or is fenced or closed. */
const FENCED = 'This instance is fenced; another one may serve.';
const DETAILS: Readonly<Record<string, string>> = {
  TF010: FENCED,
  TF012: FENCED,
  TF014: 'Its destruction is not due by the clock of the database.',
  TF063: 'The clock of this server lags behind the one of the database.',
  TF026: 'The namespace has as many keys or versions as its quota permits.',
};

/** Foreign key violation, here of the only kind that a request can cause. */
const isUnknownNamespace = (error: unknown): boolean =>
  sqlState(error) === '23503' && fieldOf(error, 'constraint') === 'key_namespace_fkey';

/** Whether another entry stands at one of the places of an append. */
export const isTaken = (error: unknown): boolean =>
  sqlState(error) === '23505' && fieldOf(error, 'table').startsWith('entry');

/** What the server says an error is about. */
const fieldOf = (error: unknown, name: 'table' | 'constraint'): string => {
  const value: unknown =
    typeof error === 'object' && error !== null ? Reflect.get(error, name) : undefined;
  return typeof value === 'string' ? value : '';
};

/**
 * The error that callers of the ports see: `LaneLost`, a `TwofoldError`, and `internal` for what
 * only a fault of ours can cause (a broken constraint).
 */
const refusal = (error: unknown): Error => {
  if (error instanceof TwofoldError) return error;
  const state = sqlState(error) ?? '';
  if (isTaken(error)) return new LaneLost('conflict', { cause: error });
  const loss = Object.hasOwn(LANE_LOSSES, state) ? LANE_LOSSES[state] : undefined;
  if (loss !== undefined) return new LaneLost(loss, { cause: error });
  if (isUnknownNamespace(error)) {
    return new TwofoldError('not_found', 'There is no such namespace.', { cause: error });
  }
  const code = Object.hasOwn(CODES, state) ? CODES[state] : undefined;
  const detail = Object.hasOwn(DETAILS, state) ? DETAILS[state] : undefined;
  return new TwofoldError(code ?? 'internal', detail, { cause: error });
};

/** For `catch`: throws what callers of the ports see. */
export const refuse = (error: unknown): never => {
  throw refusal(error);
};

/**
 * What a server fails for reasons of its own (no resources, no prerequisite state, an operator, the system,
 * itself): it passes, and says nothing of what was sent.
 */
const OF_THE_SERVER = /^(?:53|55|57|58|XX)/u;

/** As `refuse`, of a call that is repeated until the content itself is refused. */
export const refuseContent = (error: unknown): never => {
  if (!TwofoldError.is(error) && OF_THE_SERVER.test(sqlState(error) ?? '')) {
    throw new TwofoldError('database_unavailable', undefined, { cause: error, retryAfter: 1 });
  }
  return refuse(error);
};
