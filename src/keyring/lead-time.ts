/** Times that are set in advance. */
import { TwofoldError } from '../errors.ts';

/** Thirty years: what is set for later is a slip of the pen. */
const FURTHEST_MS = 30 * 365 * 86_400_000;

/**
 * A time to come, at least `least` milliseconds and at most thirty years away.
 * @throws TwofoldError invalid_value, naming the member
 */
export function checkAhead(member: string, time: Date, now: Date, least = 1): void {
  const ahead = time.getTime() - now.getTime();
  if (ahead >= least && ahead <= FURTHEST_MS) return;
  throw new TwofoldError(
    'invalid_value',
    ahead > FURTHEST_MS
      ? `${member} is more than 30 years away.`
      : `${member} has to be at least ${String(least)} ms from now.`,
  );
}
