/** Durations of ISO 8601: the grammar that all share, and those of whole days and hours. */

const N = '(\\d{1,10})';
const FORM = new RegExp(
  `^P(?=.)(?:${N}Y)?(?:${N}M)?(?:${N}W)?(?:${N}D)?(?:T(?=\\d)(?:${N}H)?(?:${N}M)?(?:${N}S)?)?$`,
  'u',
);
const UNITS = ['years', 'months', 'weeks', 'days', 'hours', 'minutes', 'seconds'] as const;

export type DurationUnit = (typeof UNITS)[number];
/** The units that were named, each with its number. */
export type DurationParts = Readonly<Partial<Record<DurationUnit, number>>>;

/** Units in the standard's order, whole numbers of at most ten digits; undefined for every other text. */
export function durationParts(text: string): DurationParts | undefined {
  const found = FORM.exec(text);
  if (found === null) return undefined;
  const numbers: readonly (string | undefined)[] = found.slice(1);
  const named = UNITS.flatMap((unit, index) => {
    const digits = numbers[index];
    return digits === undefined ? [] : [[unit, Number(digits)] as const];
  });
  return Object.fromEntries(named);
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** What is longer is a slip of the pen. */
const MAX = { weeks: 99_999, days: 99_999, hours: 999_999 } as const;

/**
 * `P7D`, `PT12H`, `P1DT12H` or `P2W` in milliseconds, which calendars and time zones leave as they are;
 * undefined for every other text.
 */
export function parseDuration(text: string): number | undefined {
  const parts = durationParts(text);
  if (parts === undefined) return undefined;
  const { weeks = 0, days = 0, hours = 0, ...others } = parts;
  const alone = parts.weeks === undefined || Object.keys(parts).length === 1;
  const bounded = weeks <= MAX.weeks && days <= MAX.days && hours <= MAX.hours;
  if (!alone || !bounded || Object.keys(others).length > 0) return undefined;
  return (7 * weeks + days) * DAY_MS + hours * HOUR_MS;
}
