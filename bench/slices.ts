/** Two ways to the same, timed in alternating slices of one run: a machine that slows down slows both. */
export const SLICES = 41;
const SLICE_MS = 12;

export type Call = () => unknown;

export interface Row {
  readonly name: string;
  /** Microseconds a call. */
  readonly bare: number;
  readonly ours: number;
  /** Median over slices of ours / bare. */
  readonly ratio: number;
}

export async function slice(call: Call): Promise<number> {
  const start = performance.now();
  let calls = 0;
  do {
    await call();
    calls += 1;
  } while (performance.now() - start < SLICE_MS);
  return ((performance.now() - start) * 1000) / calls;
}

export const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

export async function beside(
  name: string,
  bare: Call,
  ours: Call,
  slices: number = SLICES,
): Promise<Row> {
  const pairs: { readonly bare: number; readonly ours: number }[] = [];
  for (let n = 0; n < slices; n += 1) {
    // Each goes first every other time, so that neither has the warmer cache.
    const [first, second] = n % 2 === 0 ? [bare, ours] : [ours, bare];
    const [one, other] = [await slice(first), await slice(second)];
    pairs.push(n % 2 === 0 ? { bare: one, ours: other } : { bare: other, ours: one });
  }
  return {
    name,
    bare: median(pairs.map((pair) => pair.bare)),
    ours: median(pairs.map((pair) => pair.ours)),
    ratio: median(pairs.map((pair) => pair.ours / pair.bare)),
  };
}
