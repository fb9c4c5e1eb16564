/** Places of the log as commands take them: an index, or a time. */
import type { Place } from '../client/export-plan.ts';
import { TwofoldError } from '../errors.ts';

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/u;

/** @throws TwofoldError invalid_value */
export function placeIn(text: string, flag: string): Place {
  if (/^(?:0|[1-9]\d{0,14})$/u.test(text)) return Number(text);
  const time = new Date(text);
  if (TIME.test(text) && !Number.isNaN(time.getTime())) return time;
  throw new TwofoldError(
    'invalid_value',
    `--${flag} is an index of the log, or a time like 2026-11-29T12:00:00Z.`,
  );
}
