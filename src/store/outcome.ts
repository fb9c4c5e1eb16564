/**
 * What a failed database call means for the caller: was it applied?
 *
 * The table is that of the design's section 11. Most lost connections carry no `code`, and Prisma
 * wraps some errors and passes others through, so messages are classified too.
 */
import { TwofoldError } from '../errors.ts';
import { OutcomeUnknown } from '../outcome.ts';

/**
 * - `not_applied`: certainly without effect; the same call may be repeated.
 * - `unknown`: it may have been applied; only a re-read by identity on the primary tells.
 * - `rejected`: the database answered and refused; repeating it unchanged is pointless.
 */
export type Outcome = 'not_applied' | 'unknown' | 'rejected';

/**
 * How far the attempt had come: no connection yet; inside a transaction whose COMMIT had not been
 * sent; or the committing statement (COMMIT, or a statement of its own) was on its way.
 */
export type Phase = 'connect' | 'open' | 'commit';

/** The client-side deadline of a statement passed and its socket was destroyed. */
export class StatementDeadline extends Error {
  override readonly name = 'StatementDeadline';

  constructor(milliseconds: number) {
    super(`statement deadline of ${milliseconds} ms passed`);
  }
}

/** The server reported success although no standby has the row (a cancelled synchronous wait). */
export class SynchronousWaitCancelled extends Error {
  override readonly name = 'SynchronousWaitCancelled';
}

/** The database stands before what is known here: an old primary, or one that was set back. */
export class DatabaseBehind extends Error {
  override readonly name = 'DatabaseBehind';
}

/** There is no password to connect with: its file cannot be read, and none was accepted before. */
export class PasswordUnusable extends Error {
  override readonly name = 'PasswordUnusable';
}

/** Several outcomes were unknown: commits are held back but for one probe at a time. */
export class CircuitOpen extends Error {
  override readonly name = 'CircuitOpen';
}

/** SQLSTATEs after which the transaction has certainly been rolled back and a repeat may succeed. */
const NOT_APPLIED = new Set(['25006', '57P03', '53300', '40001', '40P01', '55P03', '57014']);

/**
 * A standby, or a primary that was made one: what would write a WAL record there has no SQLSTATE of its
 * own, and a message that is not translated.
 */
const IN_RECOVERY = /^cannot (?:make new WAL entries|assign transaction ?ids) during recovery$/iu;

const isInRecovery = (error: unknown, state: string): boolean =>
  state === 'XX000' &&
  chain(error).some((link) => {
    const message = field(link, 'message');
    return typeof message === 'string' && IN_RECOVERY.test(message);
  });

/**
 * Wrong password, or a role that may not log in. Only a connect is refused so, also where a pool makes
 * it beneath a read; a password that is being changed is right a moment later.
 */
const LOGIN_REFUSED = new Set(['28P01', '28000']);

/** The server ended the session: before COMMIT that is a rollback, after it nobody knows. */
const SESSION_ENDED = /^(?:08...|57P01|57P02|57P05|25P03|40003)$/u;

const DISCONNECTED = [
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'Connection terminated',
  'connection is closed',
  'Client has encountered a connection error',
  'Client was closed',
  'socket hang up',
  'Query read timeout',
  'Server has closed the connection',
  'ConnectionClosed',
];

/** Of a connect, but also of an established connection whose path has gone. */
const UNREACHABLE = ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'ENETDOWN'];

const NOT_CONNECTED = [
  'ENOTFOUND',
  'EAI_AGAIN',
  'timeout exceeded when trying to connect',
  'Connection terminated due to connection timeout',
  'timeout expired',
  // A server that cannot make a process for the connection answers the request for TLS with an error.
  'error establishing an SSL connection',
  'Cannot use a pool after calling end',
  'DatabaseNotReachable',
  'AuthenticationFailed',
];

/** Prisma's own codes for a lost, unreachable or exhausted database. */
const PRISMA_CONNECTION = new Set(['P1001', 'P1002', 'P1008', 'P1017', 'P2024', 'P2028', 'P2039']);

/**
 * After COMMIT was sent, not even a database error says that it was not applied when it is one of
 * the system (class 58), an internal one (class XX) or a full disk: where it ended the session or
 * the server, the commit record may be on disk, and crash recovery would replay it.
 */
const SYSTEM_FAILURE = /^(?:53100|58...|XX...)$/u;

/** Ends the session or the server. In the server's language: not the only mark, therefore. */
const FATAL = /^(?:FATAL|PANIC)$/u;

const field = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null ? (Reflect.get(value, name) as unknown) : undefined;

/** The error and what it wraps, outermost first; Prisma keeps the driver's error in `meta`. */
const chain = (error: unknown): unknown[] => {
  const found: unknown[] = [];
  const queue: unknown[] = [error];
  while (queue.length > 0 && found.length < 8) {
    const next = queue.shift();
    if (next === undefined || next === null || found.includes(next)) continue;
    found.push(next);
    queue.push(field(next, 'cause'), field(field(next, 'meta'), 'driverAdapterError'));
  }
  return found;
};

/** The SQLSTATE of a database error, through Prisma's wrapping; `undefined` when there is none. */
export const sqlState = (error: unknown): string | undefined => {
  for (const link of chain(error)) {
    for (const name of ['code', 'originalCode']) {
      const code = field(link, name);
      // As long as a SQLSTATE, but none: Prisma's P2002 (the only SQLSTATE class in P is P0), EPIPE.
      if (typeof code === 'string' && /^(?!P[1-9])(?=.*\d)[0-9A-Z]{5}$/u.test(code)) return code;
    }
  }
  return undefined;
};

const mentions = (error: unknown, texts: readonly string[]): boolean =>
  chain(error).some((link) => {
    const parts = ['message', 'code', 'kind', 'name'].map((name) => field(link, name));
    return parts.some(
      (part) => typeof part === 'string' && texts.some((text) => part.includes(text)),
    );
  });

/** The severity of a database error, by the server in its own language. */
const severityOf = (error: unknown): unknown =>
  chain(error)
    .map((link) => field(link, 'severity'))
    .find((severity) => severity !== undefined);

/** An error of severity ERROR has rolled its transaction back, whatever it was about. */
const mayHaveCommitted = (error: unknown, state: string): boolean => {
  const severity = severityOf(error);
  if (severity === 'ERROR') return false;
  return SYSTEM_FAILURE.test(state) || (typeof severity === 'string' && FATAL.test(severity));
};

const isOneOf = (error: unknown, ...types: readonly (new (...args: never[]) => Error)[]): boolean =>
  chain(error).some((link) => types.some((type) => link instanceof type));

const isPrismaConnection = (error: unknown): boolean =>
  chain(error).some((link) => {
    const code = field(link, 'code');
    return typeof code === 'string' && PRISMA_CONNECTION.has(code);
  });

/**
 * What `error` says about the call, given how far it had come.
 *
 * Anything that is neither a database error nor a lost connection is `rejected`: it is the caller's.
 */
export const classify = (error: unknown, phase: Phase = 'commit'): Outcome => {
  if (isOneOf(error, SynchronousWaitCancelled)) return 'unknown';
  if (isOneOf(error, CircuitOpen, DatabaseBehind, PasswordUnusable)) return 'not_applied';
  const afterSending: Outcome = phase === 'commit' ? 'unknown' : 'not_applied';
  if (isOneOf(error, StatementDeadline)) return afterSending;
  const state = sqlState(error);
  if (state !== undefined) {
    if (LOGIN_REFUSED.has(state)) return 'not_applied';
    if (isInRecovery(error, state)) return 'not_applied';
    if (phase === 'commit' && mayHaveCommitted(error, state)) return 'unknown';
    if (NOT_APPLIED.has(state)) return 'not_applied';
    if (SESSION_ENDED.test(state)) return afterSending;
    return phase === 'connect' ? 'not_applied' : 'rejected';
  }
  if (phase === 'connect' || mentions(error, NOT_CONNECTED)) return 'not_applied';
  if (mentions(error, [...UNREACHABLE, ...DISCONNECTED]) || isPrismaConnection(error))
    return afterSending;
  return 'rejected';
};

/** Whether a connection was refused for its password. */
export const isPasswordRefusal = (error: unknown): boolean => sqlState(error) === '28P01';

/** Whether the database ran out of disk (53100). */
export const isDiskFull = (error: unknown): boolean => sqlState(error) === '53100';

/**
 * The error that callers of the store see: `storage_full`, `database_unavailable`,
 * `OutcomeUnknown`, or the original one when the database refused the content (its SQLSTATE
 * and constraint are for the repository to read).
 */
export const storeError = (error: unknown, outcome: Outcome): unknown => {
  if (TwofoldError.is(error)) return error;
  if (outcome !== 'unknown' && isDiskFull(error)) {
    return new TwofoldError('storage_full', undefined, { cause: error });
  }
  switch (outcome) {
    case 'unknown':
      return new OutcomeUnknown(error);
    case 'not_applied':
      return new TwofoldError('database_unavailable', undefined, { cause: error, retryAfter: 1 });
    case 'rejected':
      return error;
  }
};
