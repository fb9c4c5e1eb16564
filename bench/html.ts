/** The report as one HTML file that needs nothing else: plots in SVG, no script, all figures in tables. */
import { conditionOf } from './report.ts';
import type { BenchReport, Measurement } from './report.ts';
import { barChart, dotChart, escapeHtml } from './svg.ts';

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d8dde4; --paper: #fff;
  --a: #1f6f8b; --b: #d1813b; --c: #7a8794; --bad: #b3261e; --good: #2e7d4f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b3; --line: #39424e;
  --paper: #14181e; --a: #5fb3cf; --b: #e7a566; --c: #77838f; --bad: #f2867e; --good: #7cc79b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .25rem; }
p { color: var(--soft); margin: .25rem 0 1rem; max-width: 46rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .85rem; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; } .bad { color: var(--bad); } .good { color: var(--good); }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } svg .grid { stroke: var(--line); }
.a { fill: var(--a); } .b { fill: var(--b); } .c { fill: var(--c); }
.wide { overflow-x: auto; }
`;

type Cell = string | { readonly text: string; readonly class: string };

export function renderHtml(report: BenchReport): string {
  const { machine, at, seconds } = report;
  const where = `${String(machine.cores)} × ${machine.processor}, Node ${machine.node}, OpenSSL ${machine.openssl}, ${machine.token}`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Twofold KMS benchmark</title><style>${STYLE}</style></head><body>
<h1>Twofold KMS benchmark</h1>
<p>${escapeHtml(where)}. ${escapeHtml(at)}, ${String(seconds)} s for each figure. Load generator, service
and database share the machine. Every answer was checked; a wrong one ends the run.</p>
<h2>Bounds</h2>${bounds(report)}
<h2>Share of the raw limit</h2>
<p>Items per second at 16 in flight, over what the token or OpenSSL does alone in one process in the same
run.</p>${shares(report)}
<h2>Latency</h2>
<p>Milliseconds, logarithmic: median, 99th and 99.9th percentile over plain HTTP. In an open loop
(“arrivals”) each answer counts from the moment at which its request was due.</p>${latencies(report)}
<h2>Processor time of one item</h2>
<p>Microseconds at 16 in flight over plain HTTP, in the server, the database and the load generator.</p>
${costs(report)}
<h2>Steps of one hybrid unwrap</h2>
<p>Each alone and many times. The server’s time of an unwrap less their sum is everything between them.</p>
${steps(report)}
<h2>Raw limits</h2>${rawLimits(report)}
<h2>All measurements</h2>
<p>Batches stop at 16 in flight: more of them fill the queue in front of the token, which refuses what is over.</p>${measurements(report)}
</body></html>
`;
}

const percent = (value: number): string => `${(value * 100).toFixed(0)} %`;
const whole = (value: number): string => Math.round(value).toLocaleString('en-US');

const at16 = (report: BenchReport, transport: Measurement['transport']) =>
  report.measurements.filter(
    (each) => each.placement === 'shared' && each.inFlight === 16 && each.transport === transport,
  );

function shares(report: BenchReport): string {
  const secured = new Map(at16(report, 'https').map((each) => [each.operation, each.ratio]));
  return barChart({
    title: 'Share of the raw limit at 16 in flight',
    series: ['HTTP', 'HTTPS'],
    stacked: false,
    format: percent,
    rows: at16(report, 'http').map(({ operation, ratio, raw }) => ({
      label: operation,
      note: `of ${raw}`,
      values: [ratio, secured.get(operation) ?? 0],
    })),
  });
}

function latencies(report: BenchReport): string {
  return dotChart({
    title: 'Latency percentiles in milliseconds',
    series: ['p50', 'p99', 'p99.9'],
    format: (value) => (value < 10 ? value.toFixed(1) : value.toFixed(0)),
    rows: report.measurements
      .filter(({ transport, placement }) => transport === 'http' && placement === 'shared')
      .map((each) => ({
        label: each.operation,
        note: conditionOf(each),
        values: [each.p50, each.p99, each.p999],
      })),
  });
}

function costs(report: BenchReport): string {
  return barChart({
    title: 'Processor time of one item in microseconds',
    series: ['server', 'database', 'load generator'],
    stacked: true,
    format: whole,
    rows: at16(report, 'http').map(({ operation, cpu }) => ({
      label: operation,
      note: '',
      values: [cpu.server, cpu.database, cpu.load],
    })),
  });
}

function bounds({ bounds: all }: BenchReport): string {
  return htmlTable(
    ['', 'figure', 'wanted', 'met'],
    all.map(({ what, figure, bound, met }) => [
      what,
      figure,
      bound,
      { text: met ? 'yes' : 'no', class: met ? 'good' : 'bad' },
    ]),
  );
}

function steps({ steps: all }: BenchReport): string {
  return htmlTable(
    ['step', '#µs of processor time'],
    all.map(({ step, microseconds }) => [step, microseconds.toFixed(1)]),
  );
}

function rawLimits({ raw }: BenchReport): string {
  return htmlTable(
    ['limit', 'of', '#per second', '#µs'],
    raw.map(({ name, of, perSecond }) => [
      name,
      of,
      whole(perSecond),
      (1e6 / perSecond).toFixed(1),
    ]),
  );
}

function measurements(report: BenchReport): string {
  return htmlTable(
    [
      'operation',
      '',
      'load',
      ...['#items/s', '#of raw', '#p50 ms', '#p99', '#p99.9', '#server µs', '#db µs', '#load µs'],
    ],
    report.measurements.map((each) => [
      each.operation,
      each.transport,
      conditionOf(each),
      whole(each.itemsPerSecond),
      percent(each.ratio),
      ...[each.p50, each.p99, each.p999].map((value) => value.toFixed(2)),
      ...[each.cpu.server, each.cpu.database, each.cpu.load].map(whole),
    ]),
  );
}

/** Columns whose title begins with `#` hold figures. */
function htmlTable(titles: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const classes = titles.map((title) => (title.startsWith('#') ? ' class="n"' : ''));
  const head = titles.map(
    (title, column) => `<th${classes[column] ?? ''}>${escapeHtml(title.replace('#', ''))}</th>`,
  );
  const body = rows.map((row) => {
    const cells = row.map((cell, column) =>
      typeof cell === 'string'
        ? `<td${classes[column] ?? ''}>${escapeHtml(cell)}</td>`
        : `<td class="${cell.class}">${escapeHtml(cell.text)}</td>`,
    );
    return `<tr>${cells.join('')}</tr>`;
  });
  return `<div class="wide"><table><tr>${head.join('')}</tr>\n${body.join('\n')}</table></div>`;
}
