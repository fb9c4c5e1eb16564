/** Which plots the status page has. */
import type { RequestGroup, Status } from '../contract/status.ts';
import { REQUEST_GROUPS } from '../contract/status.ts';
import { html } from './markup.ts';
import type { Markup } from './markup.ts';
import { plotFigure } from './status-plot.ts';
import type { Curve, Plot } from './status-plot.ts';

const NAMES: Readonly<Record<RequestGroup, readonly [name: string, colour: string]>> = {
  wrap: ['Wrap, unwrap', 's1'],
  sign: ['Sign, verify', 's2'],
  mac: ['MAC', 's3'],
  admin: ['Changes', 's4'],
  other: ['Other', 's5'],
};

/** Widths of a plot in minutes: after a start the few steps there are would be a sliver of a wide one. */
const WIDTHS = [3, 6];

/** The steps that a plot has room for. */
function stepsShown({ steps, stepSeconds, failed }: Status['history']): number {
  const narrower = WIDTHS.map((minutes) => (minutes * 60) / stepSeconds);
  return narrower.find((width) => width >= failed.length && width < steps) ?? steps;
}

/** Kinds of work that there was any of, or the first, so that a legend is never empty. */
function groupsOf({ requests }: Status['history']): readonly Curve[] {
  const all = REQUEST_GROUPS.map((group) => {
    const [name, colour] = NAMES[group];
    return { name, colour, values: requests[group] };
  });
  const seen = all.filter(({ values }) => values.some((value) => value !== null && value > 0));
  return seen.length === 0 ? all.slice(0, 1) : seen;
}

function plotsOf({ history }: Status): readonly Plot[] {
  const { stepSeconds, refused, failed, p50, p99, queued } = history;
  const size = { steps: stepsShown(history), stepSeconds };
  return [
    {
      ...size,
      id: 'requests',
      title: 'Requests',
      unit: 'per second',
      kind: 'stacked',
      least: 1,
      empty: 'No requests',
      curves: groupsOf(history),
    },
    {
      ...size,
      id: 'latency',
      title: 'Time to answer',
      unit: 'ms, logarithmic',
      kind: 'lines',
      least: 1,
      empty: 'No requests',
      curves: [
        { name: 'Median', colour: 's1', values: p50 },
        { name: '99th percentile', colour: 's3', values: p99 },
      ],
    },
    {
      ...size,
      id: 'errors',
      title: 'Errors',
      unit: 'per second',
      kind: 'stacked',
      least: 1,
      empty: 'No errors',
      curves: [
        { name: 'Failed (5xx)', colour: 'bad', values: failed },
        { name: 'Refused (4xx)', colour: 's3', values: refused },
      ],
    },
    {
      ...size,
      id: 'hsm',
      title: 'HSM queue',
      unit: 'calls that wait or run',
      kind: 'stacked',
      least: 4,
      empty: 'Nothing waited',
      curves: [{ name: 'Highest of each step', colour: 's2', values: queued }],
    },
  ];
}

export function plotsSection(status: Status): Markup {
  const { steps, stepSeconds } = status.history;
  const minutes = (count: number) => Math.round((count * stepSeconds) / 60);
  return html`<section class="part">
    <h2>The last ${minutes(stepsShown(status.history))} minutes</h2>
    <p class="note">
      Steps of ${stepSeconds} s, kept for ${minutes(steps)} minutes. Numbers are those of the latest
      step.
    </p>
    <div class="plots">${plotsOf(status).map(plotFigure)}</div>
  </section>`;
}
