/**
 * The log: one JSON object a line, written by pino, one child per component.
 *
 *     {"level":"warn","time":"2030-05-01T12:00:00.000Z","component":"hsm","message":"…", …fields}
 *
 * Every field passes the redactor; pino's own serializers, which print requests and whole errors, are
 * never reached.
 */
import { openSync } from 'node:fs';
import { pino } from 'pino';
import type { DestinationStream, Logger } from 'pino';
import { LogFile } from './log-file.ts';
import { redactText, redactor } from './redaction.ts';
import type { Redactor } from './redaction.ts';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** `fields.err` is where an error goes. Messages are fixed texts; what varies is a field. */
export type Log = Readonly<Record<LogLevel, (fields: object, message: string) => void>>;

export interface LogsOptions {
  /** Least severe level that is written. */
  readonly level: LogLevel;
  /** Member names whose values never appear: the contract's `x-sensitive` list. */
  readonly sensitive: Iterable<string>;
  /** A file descriptor or path, or whatever takes lines; standard error unless given. */
  readonly destination?: number | string | DestinationStream | undefined;
}

export interface Logs {
  component(name: string): Log;
  /** Writes what is still buffered, synchronously; for the end of the process. */
  flush(): void;
}

const STANDARD_ERROR = 2;
/**
 * A field of one of these names gets an underscore: members of a line that are ours, and `socket`, by
 * which pino would take the fields for a request and show its headers.
 */
const OWN = new Set(['level', 'time', 'component', 'message', 'socket']);

/** @throws Error when the destination cannot be opened */
export function createLogs(options: LogsOptions): Logs {
  const target = options.destination ?? STANDARD_ERROR;
  const [stream, flush] = typeof target === 'object' ? [target, nothing] : buffered(target);
  const logger = pino(
    {
      level: options.level,
      base: null,
      messageKey: 'message',
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      serializers: { err: (described: unknown) => described },
      formatters: { level: (label) => ({ level: label }) },
    },
    stream,
  );
  const redact = redactor(options.sensitive);
  return {
    component: (name) => logOf(logger.child({ component: name }), redact),
    flush,
  };
}

const nothing = (): void => undefined;

/** Written in the background, so that a slow reader of the log never stops the event loop. */
function buffered(target: number | string): [DestinationStream, () => void] {
  const file = new LogFile(typeof target === 'number' ? target : openSync(target, 'a', 0o600));
  return [file, () => file.flush()];
}

function logOf(logger: Logger, redact: Redactor): Log {
  const at =
    (level: LogLevel) =>
    (fields: object, message: string): void => {
      if (!logger.isLevelEnabled(level)) return;
      logger[level](fieldsOf(fields, redact), redactText(message));
    };
  return {
    trace: at('trace'),
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    fatal: at('fatal'),
  };
}

/** Never throws: a field whose getter fails loses its line's fields, not the caller's work. */
function fieldsOf(fields: object, redact: Redactor): object {
  try {
    const entries = Object.entries(redact(fields));
    const renamed = entries.map(([name, value]) => [OWN.has(name) ? `${name}_` : name, value]);
    return Object.fromEntries(renamed) as object;
  } catch {
    return { unreadable: true };
  }
}
