/** `bench compare a.json b.json`: what changed from one run to another, by what a slow hour leaves alone. */
import { identityOf, conditionOf, table } from './report.ts';
import type { BenchReport, Measurement } from './report.ts';

/** Changes below this are the machine's. */
const NOISE = 0.1;

export interface Change {
  readonly before: Measurement;
  readonly after: Measurement;
  /** After over before: of the ratio to the raw limit, and of the server's processor time. */
  readonly ratio: number;
  readonly cpu: number;
  readonly verdict: 'better' | 'worse' | 'same' | 'mixed';
}

/** Measurements that both reports have, in the first one's order. */
export function compareReports(before: BenchReport, after: BenchReport): readonly Change[] {
  const later = new Map(after.measurements.map((each) => [identityOf(each), each]));
  return before.measurements.flatMap((first) => {
    const second = later.get(identityOf(first));
    return second === undefined ? [] : [change(first, second)];
  });
}

function change(before: Measurement, after: Measurement): Change {
  const ratio = after.ratio / before.ratio;
  const cpu = after.cpu.server / before.cpu.server;
  const better = ratio > 1 + NOISE || cpu < 1 - NOISE;
  const worse = ratio < 1 - NOISE || cpu > 1 + NOISE;
  const verdict = better && worse ? 'mixed' : better ? 'better' : worse ? 'worse' : 'same';
  return { before, after, ratio, cpu, verdict };
}

/** The changes, and before them what makes the two runs hard to compare. */
export function renderComparison(before: BenchReport, after: BenchReport): string {
  const names = ['cores', 'processor', 'node', 'openssl', 'token'] as const;
  const others = names
    .filter((name) => before.machine[name] !== after.machine[name])
    .map((name) => `another ${name}: ${before.machine[name]}, now ${after.machine[name]}`);
  if (before.seconds !== after.seconds) {
    others.push(`${String(before.seconds)} s for each figure, now ${String(after.seconds)} s`);
  }
  const changes = compareReports(before, after);
  const alone = (report: BenchReport, which: string) => {
    const count = report.measurements.length - changes.length;
    return count === 0 ? [] : [`${String(count)} figures are in the ${which} report alone`];
  };
  const notes = [...others, ...alone(before, 'first'), ...alone(after, 'second')];
  return [...notes, renderChanges(changes)].join('\n');
}

export function renderChanges(changes: readonly Change[]): string {
  const percent = (value: number): string => `${(value * 100).toFixed(0)} %`;
  const signed = (value: number): string =>
    `${value >= 1 ? '+' : ''}${((value - 1) * 100).toFixed(0)} %`;
  return table(
    ['operation', '', 'load', 'of raw', 'now', 'change', 'server µs', 'now', 'change', ''],
    changes.map(({ before, after, ratio, cpu, verdict }) => [
      before.operation,
      before.transport,
      conditionOf(before),
      percent(before.ratio),
      percent(after.ratio),
      signed(ratio),
      before.cpu.server.toFixed(0),
      after.cpu.server.toFixed(0),
      signed(cpu),
      verdict,
    ]),
  );
}
