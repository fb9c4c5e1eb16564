/** The report of a chaos run, as Markdown. */
import type { Zone } from '../cluster.ts';
import type { Verdict } from './checker.ts';

export interface Struck {
  readonly name: string;
  readonly lastedMs: number;
  /** From its end until the cluster was whole again. */
  readonly healedMs: number;
  /** Zones whose Twofold did not run afterwards. */
  readonly gone: readonly Zone[];
}

export interface Run {
  readonly seed: number;
  readonly seconds: number;
  readonly struck: readonly Struck[];
  readonly verdict: Verdict;
}

const seconds = (ms: number) => (ms / 1_000).toFixed(1);

export function chaosReport({ seed, seconds: lasted, struck, verdict }: Run): string {
  const names = [...new Set(struck.map(({ name }) => name))].toSorted();
  const faults = names.map((name) => {
    const of = struck.filter((one) => one.name === name);
    const longest = (pick: (one: Struck) => number) => seconds(Math.max(...of.map(pick)));
    return `| ${name} | ${String(of.length)} | ${longest((one) => one.lastedMs)} | ${longest((one) => one.healedMs)} |`;
  });
  const rows = (facts: Readonly<Record<string, number>>, show: (value: number) => string) =>
    Object.entries(facts).map(([name, value]) => `| ${name} | ${show(value)} |`);
  return [
    '# A chaos run',
    '',
    `Made by \`CHAOS_SEED=${String(seed)} CHAOS_SECONDS=${String(lasted)} CHAOS_REPORT=docs/chaos.md npm run test:zones -- chaos\`.`,
    'Three zones with a Twofold each over a Patroni cluster, mixed load on all, one fault after another.',
    '',
    '| fault | times | longest, s | until whole again, s at most |',
    '| --- | --- | --- | --- |',
    ...faults,
    '',
    '| counted | number |',
    '| --- | --- |',
    ...rows(verdict.counts, String),
    '',
    '| longest time without an acknowledgement | s |',
    '| --- | --- |',
    ...rows(verdict.pauses, seconds),
    '',
    `Refusals meanwhile: ${verdict.refusals.map((code) => `\`${code}\``).join(', ') || 'none'}.`,
    verdict.faults.length === 0
      ? 'Lost, wrong or undocumented: nothing.'
      : `**Faults**: ${String(verdict.faults.length)}, the first: ${String(verdict.faults[0])}`,
    '',
  ].join('\n');
}
