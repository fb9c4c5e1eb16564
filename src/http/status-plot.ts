/**
 * Plots as inline SVG, stretched to their place: only lines and areas are in it, words and numbers
 * stand beside it as text, so that they keep their size on a narrow screen.
 */
import { NOTHING, html } from './markup.ts';
import type { Markup } from './markup.ts';

export type Series = readonly (number | null)[];

/** One value a step, the latest last. */
export interface Curve {
  readonly name: string;
  /** A class of the style: `s1` to `s5`, or `bad`. */
  readonly colour: string;
  readonly values: Series;
}

export interface Plot {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  /** `stacked` areas begin at 0; `lines` are on a logarithmic scale, for what varies by magnitudes. */
  readonly kind: 'stacked' | 'lines';
  readonly curves: readonly Curve[];
  /** Steps that a whole width holds, and the seconds of each. */
  readonly steps: number;
  readonly stepSeconds: number;
  /** The axis reaches at least so far up. */
  readonly least: number;
  /** Said where there is nothing to draw. */
  readonly empty: string;
}

/** Units of the drawing: 10 to a step across, and so many up. */
const ACROSS = 10;
const HEIGHT = 400;

/** Where a value stands, 0 at the bottom and 1 at the top, and the labels from the top down. */
export interface Scale {
  readonly place: (value: number) => number;
  readonly labels: readonly string[];
}

const ROUND = [1, 2, 3, 4, 5, 6, 8, 10];

/** From 0 to a round number that is not below `highest`, with its half between. */
export function linearScale(highest: number): Scale {
  const magnitude = 10 ** Math.floor(Math.log10(highest));
  const factor = ROUND.find((round) => round * magnitude >= highest) ?? 10;
  const top = factor * magnitude;
  return { place: (value) => value / top, labels: [top, top / 2, 0].map(numberText) };
}

const MOST_DECADES = 7;

/** Whole powers of ten around all values. */
export function logScale(lowest: number, highest: number): Scale {
  const from = Math.floor(Math.log10(lowest));
  const to = Math.min(Math.max(Math.ceil(Math.log10(highest)), from + 1), from + MOST_DECADES);
  const labels = Array.from({ length: to - from + 1 }, (_, n) => numberText(10 ** (to - n)));
  return { place: (value) => (Math.log10(value) - from) / (to - from), labels };
}

/** At most three digits that matter, thousands apart. */
export function numberText(value: number): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
  const [whole = '', part] = String(Number(value.toFixed(digits))).split('.');
  const apart = whole.replace(/\B(?=(?:\d{3})+$)/gu, '\u202F');
  return part === undefined ? apart : `${apart}.${part}`;
}

const isMeasured = (value: number | null | undefined): value is number =>
  typeof value === 'number' && Number.isFinite(value) && value >= 0;

interface Point {
  readonly x: number;
  readonly y: number;
}

/** Stretches of steps without a gap; one alone is widened, or nothing of it would be seen. */
function stretches(plot: Plot, scale: Scale, values: Series): readonly (readonly Point[])[] {
  const first = plot.steps - values.length;
  const found: Point[][] = [[]];
  values.forEach((value, index) => {
    const place = isMeasured(value) ? scale.place(value) : Number.NaN;
    if (Number.isNaN(place)) found.push([]);
    else {
      const y = Math.round(HEIGHT * (1 - Math.min(Math.max(place, 0), 1)));
      found.at(-1)?.push({ x: (first + index) * ACROSS, y });
    }
  });
  return found.filter(({ length }) => length > 0).map(widened);
}

function widened(points: readonly Point[]): readonly Point[] {
  const [only, second] = points;
  if (only === undefined || second !== undefined) return points;
  return [
    { ...only, x: Math.max(only.x - ACROSS / 2, 0) },
    { ...only, x: only.x + ACROSS / 2 },
  ];
}

const along = (points: readonly Point[]): string =>
  points.map(({ x, y }, index) => `${index === 0 ? 'M' : 'L'}${x} ${y}`).join('');

/** Each curve on top of those before it, drawn from the last so that the lower ones cover it. */
function stackedPaths(plot: Plot, scale: Scale): readonly Markup[] {
  const sums: Series[] = [];
  for (const { values } of plot.curves) {
    const below = sums.at(-1);
    sums.push(
      values.map((value, index) =>
        isMeasured(value) ? value + (below === undefined ? 0 : (below[index] ?? 0)) : null,
      ),
    );
  }
  const paths = plot.curves.map(({ colour, values }, index) => {
    if (!values.some((value) => isMeasured(value) && value > 0)) return NOTHING;
    const area = stretches(plot, scale, sums[index] ?? []).map((points) => {
      const [left, right] = [points[0]?.x ?? 0, points.at(-1)?.x ?? 0];
      return `${along(points)}L${right} ${HEIGHT}L${left} ${HEIGHT}Z`;
    });
    return html`<path class="area ${colour}" d="${area.join('')}" />`;
  });
  return paths.toReversed();
}

const linePaths = (plot: Plot, scale: Scale): readonly Markup[] =>
  plot.curves.map(
    ({ colour, values }) =>
      html`<path
        class="line ${colour}"
        d="${stretches(plot, scale, values).map(along).join('')}"
      />`,
  );

const valuesOf = ({ curves }: Plot): readonly number[] =>
  curves
    .flatMap(({ values }) => values)
    .filter((value) => isMeasured(value) && value > 0) as number[];

function highestSum({ curves }: Plot): number {
  const length = Math.max(0, ...curves.map(({ values }) => values.length));
  const sums = Array.from({ length }, (_, index) =>
    curves.reduce((sum, { values }) => sum + (values[index] ?? 0), 0),
  );
  return Math.max(0, ...sums.filter(Number.isFinite));
}

function scaleOf(plot: Plot): Scale {
  if (plot.kind === 'stacked') return linearScale(Math.max(highestSum(plot), plot.least));
  const values = valuesOf(plot);
  return values.length === 0
    ? logScale(plot.least, plot.least)
    : logScale(Math.min(...values), Math.max(...values));
}

/** Words for who does not see the plot. */
function described({ curves, unit }: Plot): string {
  const said = curves.map(({ name, values }) => {
    const measured = values.filter(isMeasured);
    if (measured.length === 0) return `${name}: nothing measured.`;
    const [latest, most] = [measured.at(-1) ?? 0, Math.max(...measured)];
    return `${name}: now ${numberText(latest)}, at most ${numberText(most)} ${unit}.`;
  });
  return said.join(' ');
}

function legend({ curves, kind }: Plot): Markup {
  const latest = (values: Series) => {
    const value = values.at(-1);
    return isMeasured(value) ? numberText(value) : '–';
  };
  return html`<ul class="legend">
    ${curves.map(
      ({ name, colour, values }) =>
        html`<li><i class="key ${kind} ${colour}"></i>${name} <b>${latest(values)}</b></li>`,
    )}
  </ul>`;
}

function drawing(plot: Plot, scale: Scale): Markup {
  const width = (plot.steps - 1) * ACROSS;
  const lines = scale.labels.length - 1;
  const across = scale.labels.map(
    (_, index) => `M0 ${Math.round((HEIGHT * index) / lines)}H${width}`,
  );
  const up = [1, 2].map((third) => `M${Math.round((width * third) / 3)} 0V${HEIGHT}`);
  const paths = plot.kind === 'stacked' ? stackedPaths(plot, scale) : linePaths(plot, scale);
  return html`<svg
    role="img"
    aria-labelledby="${plot.id}-title ${plot.id}-words"
    viewBox="0 0 ${width} ${HEIGHT}"
    preserveAspectRatio="none"
  >
    <title id="${plot.id}-title">${plot.title}, ${plot.unit}</title>
    <desc id="${plot.id}-words">${described(plot)}</desc>
    <path class="grid" d="${[...across, ...up].join('')}" />
    ${paths}
  </svg>`;
}

/** A plot with its title, legend and axes. */
export function plotFigure(plot: Plot): Markup {
  const scale = scaleOf(plot);
  const third = Math.round((plot.steps * plot.stepSeconds) / 180);
  return html`<figure>
    <figcaption>
      <h3>${plot.title} <small>${plot.unit}</small></h3>
      ${legend(plot)}
    </figcaption>
    <div class="frame">
      <ol class="up" aria-hidden="true">
        ${scale.labels.map((label) => html`<li>${label}</li>`)}
      </ol>
      ${drawing(plot, scale)}
      ${valuesOf(plot).length === 0 ? html`<p class="empty">${plot.empty}</p>` : NOTHING}
      <ol class="across" aria-hidden="true">
        <li>${third * 3} min ago</li>
        <li>${third * 2}</li>
        <li>${third}</li>
        <li>now</li>
      </ol>
    </div>
  </figure>`;
}
