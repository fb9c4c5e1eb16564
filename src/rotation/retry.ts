/** When what failed is tried again, of orders and of what is due. */
import { ERRORS } from '../errors.ts';
import type { ErrorCode, TwofoldError } from '../errors.ts';
import type { LookFailure } from './scheduler-ports.ts';

/** Waits double from the first to the second. */
const FIRST_WAIT_MS = 5_000;
const LONGEST_WAIT_MS = 3_600_000;

/** Nothing can be done now, of any key. */
export const UNREACHABLE: ReadonlySet<ErrorCode> = new Set([
  'database_unavailable',
  'audit_unavailable',
]);

/** Milliseconds until the next attempt after so many that failed. */
export const waitAfter = (failures: number): number =>
  Math.min(FIRST_WAIT_MS * 2 ** failures, LONGEST_WAIT_MS);

/** What is kept and shown of a failure: of what went wrong inside, no more than a caller would see. */
export function failureOf(error: TwofoldError, at: Date, action: string | null): LookFailure {
  const { title, status, exposesDetail } = ERRORS[error.code];
  const detail = exposesDetail && status < 500 ? (error.detail ?? title) : title;
  return { code: error.code, at, action, detail };
}
