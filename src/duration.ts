/** Durations of whole days and hours in ISO 8601, which calendars and time zones leave as they are. */

const FORM = /^P(?=.)(?:(\d{1,5})W|(?:(\d{1,5})D)?(?:T(\d{1,6})H)?)$/u;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** `P7D`, `PT12H`, `P1DT12H` or `P2W` in milliseconds; undefined for every other text. */
export function parseDuration(text: string): number | undefined {
  const found = FORM.exec(text);
  if (found === null || text.endsWith('T')) return undefined;
  const [weeks, days, hours] = found
    .slice(1)
    .map((digits: string | undefined) => Number(digits ?? 0));
  return (7 * (weeks ?? 0) + (days ?? 0)) * DAY_MS + (hours ?? 0) * HOUR_MS;
}
