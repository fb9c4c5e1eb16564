/** What the figures should be. Printed, never asserted: a benchmark is no test. */
import { BATCH } from './operations.ts';
import type { Bound, BenchReport, Measurement } from './report.ts';

type Condition = Partial<Pick<Measurement, 'operation' | 'transport' | 'placement' | 'inFlight'>>;

/** Of what was measured; a bound whose measurements are missing is left out. */
export function boundsOf({ measurements }: Pick<BenchReport, 'measurements'>): readonly Bound[] {
  const find = (wanted: Condition): Measurement | undefined =>
    measurements.find((each) => {
      const full = { transport: 'http', placement: 'shared', inFlight: 16, ...wanted };
      return (Object.keys(full) as (keyof Condition)[]).every((name) => each[name] === full[name]);
    });
  const unwrap = find({ operation: 'hybrid unwrap' });
  const single = find({ operation: 'hybrid unwrap', inFlight: 1 });
  const secured = find({ operation: 'hybrid unwrap', transport: 'https' });
  const batches = ['wrap', 'unwrap'].map((verb) =>
    find({ operation: `A256GCM ${verb}, batch of ${String(BATCH)}` }),
  );
  return [
    unwrap && share('hybrid unwrap at 16, of the raw derive rate', unwrap.ratio, 0.5),
    single && {
      what: 'hybrid unwrap, one in flight, p50',
      figure: `${single.p50.toFixed(2)} ms`,
      bound: '< 1 ms',
      met: single.p50 < 1,
    },
    ...batches.map(
      (each) => each && share(`${each.operation}, of the token's rate`, each.ratio, 0.6),
    ),
    unwrap &&
      secured && {
        what: 'what TLS takes of the unwraps at 16',
        figure: percent(1 - secured.perSecond / unwrap.perSecond),
        bound: '<= 30 %',
        met: secured.perSecond >= 0.7 * unwrap.perSecond,
      },
  ].filter((each) => each !== undefined);
}

function share(what: string, ratio: number, least: number): Bound {
  return { what, figure: percent(ratio), bound: `>= ${percent(least)}`, met: ratio >= least };
}

const percent = (value: number): string => `${(value * 100).toFixed(0)} %`;
