/** What a command that failed says on standard error: never a foreign message, which may quote a file. */
import { ClientError } from '../client/client-error.ts';
import { TwofoldError } from '../errors.ts';

/** Our own errors speak for themselves; of any other only its name and code are shown. */
export function complaintLines(error: unknown): string[] {
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
