/** Plots as SVG text: rows downwards, one label each; colours by the classes a, b, c of the page. */

export interface ChartRow {
  readonly label: string;
  readonly note: string;
  /** One for each series, not negative. */
  readonly values: readonly number[];
}

export interface Chart {
  readonly title: string;
  readonly series: readonly string[];
  readonly rows: readonly ChartRow[];
  readonly format: (value: number) => string;
}

const WIDTH = 960;
const LABELS = 330;
/** Room for a figure behind the longest bar. */
const MARGIN = 60;
const PLOT = WIDTH - LABELS - MARGIN;
const HEAD = 26;
const COLORS = ['a', 'b', 'c'];

export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

/** Bars of each row below one another, or one behind the other when `stacked`. */
export function barChart(chart: Chart & { readonly stacked: boolean }): string {
  const { rows, series, stacked, format } = chart;
  const bar = stacked ? 16 : 11;
  const height = stacked ? bar + 10 : bar * series.length + 10;
  const total = (values: readonly number[]): number => values.reduce((sum, each) => sum + each, 0);
  const most = Math.max(
    ...rows.map(({ values }) => (stacked ? total(values) : Math.max(...values))),
    0,
  );
  const scale = (value: number): number => (most === 0 ? 0 : (value / most) * PLOT);
  const body = rows.map((row, index) => {
    const top = HEAD + index * height;
    let from = 0;
    const bars = row.values.map((value, which) => {
      const y = stacked ? top : top + which * bar;
      const x = LABELS + from;
      if (stacked) from += scale(value);
      const color = COLORS[which] ?? 'c';
      const rect = `<rect class="${color}" x="${fix(x)}" y="${fix(y)}" width="${fix(scale(value))}" height="${fix(bar - 1)}"/>`;
      return stacked
        ? rect
        : rect + text(LABELS + scale(value) + 5, y + bar - 1, format(value), 'soft');
    });
    const sum = stacked
      ? text(LABELS + from + 5, top + bar - 3, format(total(row.values)), 'soft')
      : '';
    return label(row, top + height / 2) + bars.join('') + sum;
  });
  return frame(chart, HEAD + rows.length * height, body.join('\n'));
}

/** A dot for each value, on a logarithmic axis. */
export function dotChart(chart: Chart): string {
  const { rows, format } = chart;
  const height = 17;
  const values = rows.flatMap((row) => row.values).filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...values, 1)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values, 1))));
  const scale = (value: number): number =>
    LABELS + ((Math.log10(Math.max(value, 10 ** low)) - low) / (high - low)) * PLOT;
  const bottom = HEAD + rows.length * height;
  const decades = Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index));
  const axis = decades.map(
    (value) =>
      `<line class="grid" x1="${fix(scale(value))}" x2="${fix(scale(value))}" y1="${String(HEAD - 4)}" y2="${fix(bottom)}"/>` +
      text(scale(value) + 3, bottom + 12, format(value), 'soft'),
  );
  const body = rows.map((row, index) => {
    const y = HEAD + index * height + height / 2;
    const dots = row.values.map(
      (value, which) =>
        `<circle class="${COLORS[which] ?? 'c'}" cx="${fix(scale(value))}" cy="${fix(y)}" r="4"><title>${escapeHtml(format(value))}</title></circle>`,
    );
    return label(row, y) + dots.join('');
  });
  return frame(chart, bottom + 16, [...axis, ...body].join('\n'));
}

function frame({ title, series }: Chart, height: number, body: string): string {
  const legend = series.map(
    (name, index) =>
      `<rect class="${COLORS[index] ?? 'c'}" x="${String(LABELS + index * 130)}" y="4" width="10" height="10"/>` +
      text(LABELS + index * 130 + 15, 13, name, 'soft'),
  );
  return `<svg viewBox="0 0 ${String(WIDTH)} ${fix(height)}" role="img"><title>${escapeHtml(title)}</title>
${legend.join('')}
${body}</svg>`;
}

const label = ({ label: name, note }: ChartRow, middle: number): string =>
  `<text x="0" y="${fix(middle + 3)}">${escapeHtml(name)} <tspan class="soft">${escapeHtml(note)}</tspan></text>`;

const text = (x: number, y: number, content: string, style: string): string =>
  `<text class="${style}" x="${fix(x)}" y="${fix(y)}">${escapeHtml(content)}</text>`;

const fix = (value: number): string => value.toFixed(1);
