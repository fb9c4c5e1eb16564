/** The report of a chaos run, as Markdown. */
import type { Zone } from '../cluster.ts';
import { coveredBy } from './bounds.ts';
import type { Proof, StrikePause, Verdict } from './checker.ts';

export interface Struck {
  readonly name: string;
  readonly lastedMs: number;
  /** From its end until the cluster was whole again and every zone served. */
  readonly healedMs: number;
  /** Zones that did not serve again. */
  readonly gone: readonly Zone[];
}

export interface Run {
  /** What makes the same run again. */
  readonly command: string;
  /** Seconds of load. */
  readonly lasted: number;
  readonly graceMs: number;
  /** Versions of what ran, and what else the machine did. */
  readonly place: readonly string[];
  readonly struck: readonly Struck[];
  readonly verdict: Verdict;
  /** What the test itself saw to. */
  readonly proofs: readonly Proof[];
}

const seconds = (ms: number) => (ms / 1_000).toFixed(1);

function faultRows(struck: readonly Struck[], pauses: readonly StrikePause[]): string[] {
  const names = [...new Set(struck.map(({ name }) => name))].toSorted();
  return names.map((name) => {
    const of = struck.filter((one) => one.name === name);
    const paused = pauses.filter((one) => one.name === name);
    const cells = [
      name,
      String(of.length),
      seconds(Math.max(...of.map(({ lastedMs }) => lastedMs))),
      seconds(Math.max(...of.map(({ healedMs }) => healedMs))),
      seconds(Math.max(...paused.map(({ changes }) => changes))),
      seconds(Math.max(...paused.map(({ commits }) => commits))),
      seconds(Math.max(...paused.map(({ unwraps }) => unwraps))),
    ];
    return `| ${cells.join(' | ')} |`;
  });
}

function promotions(afterPromotion: readonly (number | null)[]): string {
  if (afterPromotion.length === 0) return 'No PostgreSQL was promoted.';
  const times = afterPromotion.map((ms) => (ms === null ? 'never' : seconds(ms)));
  return `Another PostgreSQL was promoted ${String(times.length)} times; a write (a change, wrap or signature) was acknowledged again after ${times.join(', ')} s.`;
}

function unwrapsIn(graceMs: number, strikes: readonly StrikePause[]): string {
  const { faults, pauses } = coveredBy(graceMs, strikes);
  if (faults === 0) return 'No outage was over within the grace.';
  const longest = Math.max(...pauses.map(({ ms }) => ms));
  return `In ${String(faults)} of ${String(strikes.length)} faults a zone that was not struck had its commits back within the grace; no such zone was without an unwrap for longer than ${seconds(longest)} s.`;
}

export function chaosReport(run: Run): string {
  const { verdict } = run;
  const proofs = [...verdict.proofs, ...run.proofs];
  return [
    '# A chaos run',
    '',
    `Made by \`${run.command}\`: ${run.lasted.toFixed(0)} s of mixed load on three zones with a Twofold each over a Patroni cluster, ` +
      `${String(run.struck.length)} faults one after another, \`zone.graceMs\` ${String(run.graceMs)}. A process of its own made the load, recorded ` +
      'what was acknowledged, and judged. The machine was shared with other work, so times are upper bounds.',
    '',
    ...run.place.map((line) => `- ${line}`),
    '',
    '## Proofs',
    '',
    '| claim | held against | outcome |',
    '| --- | --- | --- |',
    ...proofs.map(
      ({ claim, checked, faults }) =>
        `| ${claim} | ${checked} | ${faults.length === 0 ? 'holds' : `**broken ${String(faults.length)} times**`} |`,
    ),
    '',
    ...proofs.flatMap(({ claim, faults }) =>
      faults.slice(0, 5).map((fault) => `- ${claim}: \`${fault}\``),
    ),
    ...(proofs.some(({ faults }) => faults.length > 0) ? [''] : []),
    '## Faults',
    '',
    'The last three columns are of the zones whose Twofold the fault did not strike: the longest time, from the fault until the cluster',
    'was whole again, in which none of them acknowledged a change, none a wrap or signature, and one of them no unwrap. A change waits',
    'for the grace of an instance that is gone; what comes later than the grace lasts is beyond it.',
    '',
    '| fault | times | lasted, s | until whole again, s | no change, s | no wrap or signature, s | no unwrap, s |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...faultRows(run.struck, verdict.strikePauses),
    '',
    unwrapsIn(run.graceMs, verdict.strikePauses),
    '',
    promotions(verdict.afterPromotion),
    '',
    '## Operations',
    '',
    `${String(verdict.acknowledged)} were acknowledged. The pause is the longest time without one in any zone.`,
    '',
    '| operation | acknowledged | longest pause, s |',
    '| --- | --- | --- |',
    ...Object.entries(verdict.pauses).map(
      ([name, pause]) =>
        `| ${name} | ${String(verdict.counts[name] ?? verdict.acknowledged)} | ${seconds(pause)} |`,
    ),
    '',
    `Refused meanwhile: ${verdict.refusals.map((code) => `\`${code}\``).join(', ') || 'nothing'}.`,
    '',
  ].join('\n');
}
