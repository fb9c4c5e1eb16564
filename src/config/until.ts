/** The form of `suites.classicalUntil`. */

const DATE = /^\d{4}-\d{2}-\d{2}$/u;
const RFC_3339 =
  /^(\d{4}-\d{2}-\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/u;
const DAY_MS = 86_400_000;

/** Whether the calendar has the day: `Date` takes 31 February for a day of March. */
const isDay = (text: string): boolean => {
  const day = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text);
};

/**
 * The first moment after what `until` grants: an RFC 3339 time itself, for a date the end of that day
 * in UTC. Undefined for a text of neither form.
 */
export const parseUntil = (until: string): Date | 'never' | undefined => {
  if (until === 'never') return 'never';
  if (DATE.test(until)) {
    return isDay(until) ? new Date(Date.parse(`${until}T00:00:00Z`) + DAY_MS) : undefined;
  }
  const [, day, hour] = RFC_3339.exec(until) ?? [];
  if (day === undefined || !isDay(day) || hour === '24') return undefined;
  const time = new Date(until);
  return Number.isNaN(time.getTime()) ? undefined : time;
};
