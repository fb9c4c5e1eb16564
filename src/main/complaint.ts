/** What a command that failed says on standard error: never a foreign message, which may quote a file. */
import { printable } from '../audit/verify/printable.ts';
import { ClientError } from '../client/client-error.ts';
import { TwofoldError } from '../errors.ts';

/**
 * Our own errors speak for themselves; of any other only its name and code are shown. What they quote of the
 * database or the log (places, zones, operators) steers no terminal.
 */
export const complaintLines = (error: unknown): string[] => wordsOf(error).flatMap(linesOf);

/** Messages of several lines go on indented, so that no text that is quoted can begin a line of ours. */
const linesOf = (words: string): string[] =>
  words.split('\n').map((line, at) => `${at > 0 ? '  ' : ''}${printable(line)}`);

function wordsOf(error: unknown): string[] {
  if (!TwofoldError.is(error) && !ClientError.is(error))
    return [`twofold: an unexpected error: ${nameOf(error)} (internal)`];
  const { cause } = error;
  return [
    `twofold: ${error.message} (${error.code})`,
    ...(cause instanceof Error && !TwofoldError.is(cause) ? [`because: ${nameOf(cause)}`] : []),
  ];
}

/** The words of a system call name the call, its error and a path or address: `EACCES: …, open '/x'`. */
function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (syscall !== undefined) return error.message;
  return code === undefined ? error.name : `${error.name} ${code}`;
}
