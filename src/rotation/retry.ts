/** When what failed is tried again, of orders and of what is due. */
import type { ErrorCode } from '../errors.ts';

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
