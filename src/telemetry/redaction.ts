/**
 * What may stand in a log line: plain values, bounded, without the members that the contract marks as
 * sensitive, and errors by allow list.
 *
 * Foreign error messages are left out: parsers and drivers quote their input in them.
 */
import { types } from 'node:util';
import { TwofoldError } from '../errors.ts';

/** Plain JSON. */
export type LogValue =
  string | number | boolean | null | readonly LogValue[] | { readonly [name: string]: LogValue };

export const REDACTED = '[redacted]';

const MAX_DEPTH = 6;
const MAX_MEMBERS = 64;
const MAX_TEXT = 2_048;
const MAX_CAUSES = 5;
const MAX_FRAMES = 20;
/** A JWS or JWE in compact form, wherever it stands. */
const TOKEN = /\beyJ[\w-]{8,}(?:\.[\w-]*){2,4}/gu;
const CODE = /^[A-Za-z0-9_.-]{1,64}$/u;

export type Redactor = (fields: object) => Readonly<Record<string, LogValue>>;

/**
 * @param sensitive member names whose values never appear, in any case and at any depth
 */
export function redactor(sensitive: Iterable<string>): Redactor {
  const names = new Set([...sensitive].map((name) => name.toLowerCase()));
  const members = (value: object, depth: number): Record<string, LogValue> => {
    const entries = Object.entries(value).filter(([, member]) => typeof member !== 'function');
    const shown = entries
      .slice(0, MAX_MEMBERS)
      .map(([name, member]): [string, LogValue] => [
        name,
        names.has(name.toLowerCase()) ? REDACTED : plain(member, depth),
      ]);
    return Object.fromEntries(shown);
  };
  const plain = (value: unknown, depth: number): LogValue => {
    if (value === null || typeof value === 'boolean' || typeof value === 'number') return value;
    if (typeof value === 'string') return redactText(value);
    if (typeof value === 'bigint') return value.toString();
    if (typeof value !== 'object') return `[${typeof value}]`;
    if (isError(value)) return describeError(value);
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
    if (ArrayBuffer.isView(value)) return `[${String(value.byteLength)} bytes]`;
    if (depth >= MAX_DEPTH) return '[deeper]';
    if (Array.isArray(value)) {
      return value.slice(0, MAX_MEMBERS).map((member: unknown) => plain(member, depth + 1));
    }
    return isPlain(value) ? members(value, depth + 1) : `[${className(value)}]`;
  };
  return (fields) => members(fields, 0);
}

/** Bounds a text and takes tokens out of it. */
export function redactText(text: string): string {
  const clean = text.replaceAll(TOKEN, '[token]');
  return clean.length > MAX_TEXT ? `${clean.slice(0, MAX_TEXT)}…` : clean;
}

/**
 * Name and code; the message only of our own errors; frames, without the message that V8 puts before
 * them, only where the failure is internal; of causes name and code.
 */
export function describeError(error: Error): LogValue {
  const own = error instanceof TwofoldError;
  const internal = !own || error.code === 'internal' || error.code === 'integrity_failed';
  const causes = causesOf(error);
  return {
    ...nameAndCode(error),
    ...(own ? { message: redactText(error.message) } : {}),
    ...(causes.length === 0 ? {} : { causes }),
    ...(internal ? { frames: framesOf(deepest(error)) } : {}),
  };
}

function nameAndCode(error: Error): { readonly name: string; readonly code?: string } {
  const name = CODE.test(error.name) ? error.name : 'Error';
  const { code } = error as { readonly code?: unknown };
  const isCode = (typeof code === 'string' && CODE.test(code)) || typeof code === 'number';
  return isCode ? { name, code: String(code) } : { name };
}

const causesOf = (error: Error): LogValue[] => chain(error).slice(1).map(nameAndCode);

function deepest(error: Error): Error {
  return chain(error).at(-1) ?? error;
}

/** The error and its causes, each once, so that a cycle ends. */
function chain(error: Error): readonly Error[] {
  const found = [error];
  let { cause } = error;
  while (isError(cause) && found.length <= MAX_CAUSES && !found.includes(cause)) {
    found.push(cause);
    ({ cause } = cause);
  }
  return found;
}

/** Only what follows the message, which may hold lines that look like frames. */
function framesOf({ stack, message }: Error): LogValue[] {
  if (typeof stack !== 'string') return [];
  const start = stack.indexOf(message);
  // A message that was changed after the stack was taken cannot be told from frames.
  if (start < 0) return [];
  const lines = stack
    .slice(start + message.length)
    .split('\n')
    .filter((line) => /^ {4}at \S/u.test(line));
  return lines.slice(0, MAX_FRAMES).map((line) => redactText(line.trim()));
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** An error of any realm; `instanceof` misses those of others. */
const isError = (value: unknown): value is Error =>
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- its successor is not in our `lib`
  types.isNativeError(value);

const className = (value: object): string => {
  const { name } = value.constructor;
  return CODE.test(name) ? name : 'object';
};
