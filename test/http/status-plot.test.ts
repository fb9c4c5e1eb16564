import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { linearScale, logScale, numberText, plotFigure } from '../../src/http/status-plot.ts';
import type { Plot, Series } from '../../src/http/status-plot.ts';
import { statusPage } from '../../src/http/status-page.ts';
import { sampleHistory, sampleStatus } from './sample-status.ts';

const plot = (kind: Plot['kind'], ...curves: Series[]): Plot => ({
  id: 'p',
  title: 'Title',
  unit: 'per second',
  kind,
  curves: curves.map((values, index) => ({ name: `n${index}`, colour: `s${index + 1}`, values })),
  steps: 180,
  stepSeconds: 5,
  least: 1,
  empty: 'Nothing',
});

const pathsOf = (figure: string) =>
  [...figure.matchAll(/<path\s+class="([^"]*)"\s+d="([^"]*)"/gu)].map(([, kind = '', d = '']) => ({
    kind,
    d,
    points: [...d.matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/gu)].map(([, x, y]) => [
      Number(x),
      Number(y),
    ]),
  }));

/** Anything that a series could come to hold, if everything before went wrong. */
const value = fc.oneof(
  fc.constant(null),
  fc.double({ min: 0, max: 1e9, noNaN: true }),
  fc.constantFrom(0, -0, 1, 0.001, Number.NaN, Infinity, -Infinity, -1, 5e-324, 1e300),
);
const series = fc.array(value, { maxLength: 180 });
const kind = fc.constantFrom('stacked' as const, 'lines' as const);

describe('a plot', () => {
  it('stays in its frame and holds numbers only, whatever it is given', () => {
    fc.assert(
      fc.property(kind, fc.array(series, { maxLength: 5 }), (given, curves) => {
        const text = plotFigure(plot(given, ...curves)).text;
        expect(text).not.toMatch(/NaN|Infinity|undefined|null/u);
        for (const { d, points } of pathsOf(text)) {
          expect(d).toMatch(/^(?:[MLHV]?\d+(?: \d+)?|[LZ])*$/u);
          for (const [x = -1, y = -1] of points) {
            expect(x >= 0 && x <= 1795 && y >= 0 && y <= 400).toBe(true);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it('is bounded in size', () => {
    const full = Array.from({ length: 180 }, (_, n) => 1_000 + ((n * 7919) % 1_000));
    const figure = plotFigure(plot('stacked', full, full, full, full, full)).text;
    expect(figure.length).toBeLessThan(14_000);
    const page = statusPage(sampleStatus({ history: sampleHistory(180) }), true);
    expect(Buffer.byteLength(page)).toBeLessThan(64_000);
  });

  it('puts the latest at the right, and leaves a gap where nothing was measured', () => {
    const [, line] = pathsOf(plotFigure(plot('lines', [1, 10, null, 10, 1])).text);
    expect(line?.d).toBe('M1750 400L1760 0M1780 0L1790 400');
  });

  it('shows a step that stands alone', () => {
    const [, line] = pathsOf(plotFigure(plot('lines', [null, 10, null])).text);
    expect(line?.d).toBe('M1775 400L1785 400');
  });

  it('stacks areas, the later on the earlier, and draws the earlier last', () => {
    const [, ...areas] = pathsOf(plotFigure(plot('stacked', [1, 1], [3, 1])).text);
    expect(areas.map(({ kind: area, d }) => [area, d])).toEqual([
      ['area s2', 'M1780 0L1790 200L1790 400L1780 400Z'],
      ['area s1', 'M1780 300L1790 300L1790 400L1780 400Z'],
    ]);
  });

  it('says in words what it shows', () => {
    const figure = plotFigure(plot('stacked', [1, 40, 2.5], [null])).text;
    expect(figure).toContain('n0: now 2.5, at most 40 per second. n1: nothing measured.');
    expect(figure).toMatch(/role="img"\s+aria-labelledby="p-title p-words"/u);
    expect(plotFigure(plot('stacked', [0, 0])).text).toContain('Nothing');
  });
});

describe('scales', () => {
  it.each([
    [1, ['1', '0.5', '0']],
    [1.01, ['2', '1', '0']],
    [7, ['8', '4', '0']],
    [960, ['1\u202F000', '500', '0']],
    [0.07, ['0.08', '0.04', '0']],
  ])('up to %d end at a round number', (highest, labels) => {
    expect(linearScale(highest).labels).toEqual(labels);
  });

  it('by powers of ten reach around all values', () => {
    const scale = logScale(0.43, 31);
    expect(scale.labels).toEqual(['100', '10', '1', '0.1']);
    expect([scale.place(0.1), scale.place(100)].map((at) => Math.round(at * 1e9) / 1e9)).toEqual([
      0, 1,
    ]);
    expect(logScale(1, 1).labels).toEqual(['10', '1']);
  });

  it.each([
    [0, '0'],
    [0.4312, '0.431'],
    [1.005, '1'],
    [42.26, '42.3'],
    [999.6, '1\u202F000'],
    [1_234_567, '1\u202F234\u202F567'],
  ])('%d is written %s', (number, text) => {
    expect(numberText(number)).toBe(text);
  });
});

describe('the width of the plots', () => {
  const widthsAt = (steps: number) => {
    const page = statusPage(sampleStatus({ history: sampleHistory(steps) }), true);
    const widths = [...page.matchAll(/viewBox="0 0 (\d+) 400"/gu)].map(([, width]) =>
      Number(width),
    );
    const [, minutes] = /The last (\d+) minutes/u.exec(page) ?? [];
    return [new Set(widths).size, (widths[0] ?? 0) / 10 + 1, Number(minutes), widths.length];
  };
  it.each([
    [0, 36, 3],
    [36, 36, 3],
    [37, 72, 6],
    [72, 72, 6],
    [73, 180, 15],
    [180, 180, 15],
  ])('of %d steps is that of %d', (steps, width, minutes) => {
    expect(widthsAt(steps)).toEqual([1, width, minutes, 4]);
  });
});
