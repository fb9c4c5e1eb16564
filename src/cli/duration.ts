/** Durations as a person types them: `90s`, `15m`, `12h`, `1d`, or ISO 8601 (`PT1H30M`). */
import { durationParts } from '../duration.ts';
import { TwofoldError } from '../errors.ts';

const UNITS = new Map([
  ['s', 1],
  ['m', 60],
  ['h', 3_600],
  ['d', 86_400],
]);

/** Whole seconds, at least one. @throws TwofoldError invalid_value */
export function parseDuration(text: string): number {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const short = Number(count) * (UNITS.get(unit ?? '') ?? Number.NaN);
  const seconds = Number.isNaN(short) ? isoSeconds(text) : short;
  if (!(seconds >= 1)) {
    throw new TwofoldError(
      'invalid_value',
      'A duration is a number with s, m, h or d (1h), or ISO 8601 (PT1H), and at least a second.',
    );
  }
  return seconds;
}

function isoSeconds(text: string): number {
  const { days = 0, hours = 0, minutes = 0, seconds = 0, ...others } = durationParts(text) ?? {};
  if (Object.keys(others).length > 0) return Number.NaN;
  return (days * 24 + hours) * 3_600 + minutes * 60 + seconds;
}
