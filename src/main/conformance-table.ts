/** A conformance report as text, for a terminal. */
import { SERVICE_NEEDS } from './conformance-report.ts';
import type { ConformanceReportFile, ReportedUse, SuiteVerdict } from './conformance-report.ts';

export function tableLines(report: ConformanceReportFile): string[] {
  const { token, module } = report;
  return [
    '',
    `${token.manufacturer} ${token.model}, firmware ${token.firmware}`,
    `${module.file}: ${module.description} ${module.version} (PKCS #11 ${module.cryptoki})`,
    '',
    ...columns([
      ['use', 'mechanism', 'works', 'speed', 'serves'],
      ...report.uses.flatMap((use) => useRows(use, report.suites)),
    ]),
    '',
    ...columns([['suite', 'served', 'keys', 'why'], ...report.suites.map(suiteRow)]),
    '',
    rootLine(report),
    objectsLine(report),
  ];
}

function useRows(use: ReportedUse, suites: readonly SuiteVerdict[]): string[][] {
  const works = use.available ? `yes (${use.checked ?? 'tried'})` : 'no';
  const serves = suites.filter(({ needs }) => needs === use.name).map(({ suite }) => suite);
  const means = serves.length > 0 ? serves.join(', ') : meaningOf(use.name);
  const { name, mechanism } = use;
  if (!use.available) return [[name, mechanism, works, '', `${means}: ${use.reason}`]];
  const [first, ...others] = use.speeds.map(speedText);
  const more = others.map((speed) => ['', '', '', speed, '']);
  return [[name, mechanism, works, first ?? '', means], ...more];
}

/** Of uses that no suite names. */
function meaningOf(use: string): string {
  if (SERVICE_NEEDS.includes(use)) return 'every suite';
  return use.startsWith('wrap:') ? 'private keys that leave the token wrapped' : 'no suite yet';
}

function speedText({ operation, microseconds, perSecond, detail }: ReportedUse['speeds'][number]) {
  if (microseconds === null || perSecond === null) return `${operation}: ${detail}`;
  const each = microseconds < 100 ? String(microseconds) : String(Math.round(microseconds));
  return `${operation}: ${perSecond.toLocaleString('en')}/s, ${each} µs`;
}

function suiteRow({ suite, served, custody, reason }: SuiteVerdict): string[] {
  return [suite, served ? 'served' : 'not served', served ? custody : '', reason];
}

function rootLine({ root, custody }: ConformanceReportFile): string {
  switch (root) {
    case 'of the security officer':
      return `Root: on the token; what the user PIN can extract: custody ${custody}`;
    case 'temporary':
      return 'Root: a temporary one of this run, so custody is not known; make one (twofold hsm make-root) and run again';
    case 'none':
      return 'Root: none, the token makes no key that wraps';
  }
}

function objectsLine({ objects }: ConformanceReportFile): string {
  const { before, after, leftovers, unchanged } = objects;
  const gone = leftovers === 0 ? '' : `; ${leftovers} of an interrupted run removed at the start`;
  const same = unchanged ? 'the same' : 'not the same: someone else changed the token meanwhile';
  return `Token objects: ${before} before, ${after} after, ${same}${gone}`;
}

/** Aligned, the last column ragged. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, at) =>
    Math.max(...rows.map((row) => (row[at] ?? '').length)),
  );
  return rows.map((row) =>
    row
      .map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(widths[at] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}
