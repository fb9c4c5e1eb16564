/** A report as a person reads it: nothing in what was read steers a terminal. */
import type { Archive } from './archives.ts';
import { printable } from './printable.ts';
import type { Problem } from './problems.ts';
import type { Claim, VerifyReport } from './verify.ts';

export function reportLines(report: VerifyReport): readonly string[] {
  const { verified, origin, from, until, first, problems, problemCount, unchecked } = report;
  const { lanes, checkpoints, keySetChanges, keyChanges, archive } = report;
  const counted = `${checkpoints} checkpoints, ${lanes} lanes, ${keyChanges} changes of keys, ${keySetChanges} of the key set`;
  const where = origin === '' ? 'nothing could be read' : `${origin}: entries ${from} to ${until}`;
  const rest = problemCount - problems.length;
  return [
    `${where} (${counted})`,
    ...problems.map(
      ({ code, index, where: place, why }) =>
        `${index === null ? 'no index' : `index ${index}`}: ${code}: ${place}: ${why}`,
    ),
    ...(rest > 0 ? [`and ${rest} more`] : []),
    ...(archive === null ? [] : [archiveText(archive)]),
    ...unchecked.map((what) => `not looked at: ${what}`),
    ...(verified ? [`verified, ${claimText(report.claim)}`] : [`NOT VERIFIED${firstBad(first)}`]),
  ].map(printable);
}

function firstBad(first: Problem | null): string {
  if (first?.index === null || first?.index === undefined) return '';
  const { index, interval } = first;
  if (interval === undefined || interval.exact) return `: the first bad index is ${index}`;
  const { until } = interval;
  return `: the first bad index is from ${index} to before ${until}; an older export tells it (--against)`;
}

function archiveText({ index, until, place, operator, done }: Archive): string {
  const what = `entries before ${until} went to ${place}, by ${operator}`;
  return done
    ? `archived, says entry ${index}: ${what}`
    : `archive begun by entry ${index}, and not said to be over: ${what}`;
}

/** What is claimed, and what is not. */
export function claimText({ against, witnesses, threshold }: Claim): string {
  switch (against) {
    case 'nobody':
      return 'nothing is claimed';
    case 'database-writer':
      return (
        'against whoever can write to the database, but not against a holder of the HSM PIN, who can sign ' +
        'another history: that takes witnesses outside (--witnesses, --threshold)'
      );
    case 'pin-holder':
      return (
        'against whoever can write to the database, and against a holder of the HSM PIN as long as fewer ' +
        `than ${threshold} of the witnesses are with him; signed by ${witnesses.join(', ')}`
      );
  }
}
