/**
 * Durations of ISO 8601 as rotation policies state them: `P1Y6M`, `P90D`, `PT12H`.
 *
 * Years and months go by the UTC calendar, clamped to the last day of a month (31 January and a month
 * is 28 or 29 February); a week is 7 days, a day 24 hours. Taken is the canonical text alone: units in
 * the standard's order, no fraction, no sign, no leading zero, no unit with zero. So a text that is
 * stored is a text that was given, and two equal texts are equal durations. At most 100 years.
 */
import { durationParts } from '../duration.ts';
import { TwofoldError } from '../errors.ts';

/** Calendar months, then milliseconds; not both zero. */
export interface Duration {
  readonly months: number;
  readonly ms: number;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A number that is zero or begins with one. */
const ZERO = /\D0/u;

/** Where lengths are taken: the first of a leap year, so that a year and a month count as long. */
const REFERENCE = Date.UTC(2000, 0, 1);
const MAX_MONTHS = 1_200;
/** What 100 years from the reference are. */
const MAX_MS = 36_525 * DAY;

const REMEMBERED = 256;
const known = new Map<string, Duration | null>();

function parse(text: string): Duration | null {
  const parts = ZERO.test(text) ? undefined : durationParts(text);
  if (parts === undefined) return null;
  const { years = 0, months = 0, weeks = 0, days = 0 } = parts;
  const { hours = 0, minutes = 0, seconds = 0 } = parts;
  const duration = {
    months: years * 12 + months,
    ms: (weeks * 7 + days) * DAY + hours * HOUR + minutes * MINUTE + seconds * SECOND,
  };
  // Each part first: what no calendar reaches has no length.
  const bounded = duration.months <= MAX_MONTHS && duration.ms <= MAX_MS;
  return bounded && lengthOf(duration) <= MAX_MS ? Object.freeze(duration) : null;
}

/**
 * Null for a text that is not canonical, and for more than 100 years. The texts met last are
 * remembered, since a plan meets the same few for every key.
 */
export function parseDuration(text: string): Duration | null {
  const found = known.get(text);
  if (found !== undefined) return found;
  const duration = parse(text);
  if (known.size >= REMEMBERED) known.clear();
  known.set(text, duration);
  return duration;
}

/** Of a text that was checked when it was stored. @throws TwofoldError integrity_failed */
export function storedDuration(text: string): Duration {
  const duration = parseDuration(text);
  if (duration === null) {
    throw new TwofoldError('integrity_failed', 'A stored duration is malformed.');
  }
  return duration;
}

/** Milliseconds from 2000-01-01T00:00:00Z on: what bounds compare. */
export function lengthOf(duration: Duration): number {
  return later(REFERENCE, duration) - REFERENCE;
}

/** `at` (milliseconds since the epoch) and the duration: months first, then the rest. */
export function later(at: number, { months, ms }: Duration): number {
  return addMonths(at, months) + ms;
}

/** `at` (milliseconds since the epoch) less the duration: months first, then the rest. */
export function earlier(at: number, { months, ms }: Duration): number {
  return addMonths(at, -months) - ms;
}

function addMonths(at: number, months: number): number {
  if (months === 0) return at;
  const date = new Date(at);
  const day = date.getUTCDate();
  date.setUTCMonth(date.getUTCMonth() + months);
  // A month without that day ran over into the next one; its day 0 is the last of the month meant.
  if (date.getUTCDate() !== day) date.setUTCDate(0);
  return date.getTime();
}
