/**
 * What becomes of each of many: every item of a batch has its own outcome, in its own place, and one
 * that fails does not stop the others.
 */
import { TwofoldError } from './errors.ts';

export type Settled<T> = T | TwofoldError;

export const isFailed = (settled: unknown): settled is TwofoldError => TwofoldError.is(settled);

const isGood = <T>(settled: Settled<T>): settled is T => !isFailed(settled);

/** What `act` gives or fails with. */
export function attempt<T>(act: () => T): Settled<T> {
  try {
    return act();
  } catch (error) {
    return TwofoldError.from(error);
  }
}

/**
 * Goes on with the items that have not failed: `work` settles all of them, in order. What it rejects
 * with is the outcome of each. Never rejects.
 */
export async function settleRest<T, R>(
  items: readonly Settled<T>[],
  work: (rest: readonly T[]) => Promise<readonly Settled<R>[]>,
): Promise<readonly Settled<R>[]> {
  const rest = items.some(isFailed) ? items.filter(isGood) : (items as readonly T[]);
  if (rest.length === 0) return items as readonly TwofoldError[];
  const settled = await work(rest).catch((error: unknown): readonly Settled<R>[] => {
    const failure = TwofoldError.from(error);
    return rest.map(() => failure);
  });
  if (rest.length === items.length) return settled;
  const results = settled.values();
  return items.map((item) => (isFailed(item) ? item : next(results)));
}

/**
 * Works on the items one by one, at most `atOnce` at a time, so that one batch does not fill a queue.
 * Never rejects.
 */
export async function settleEach<T, R>(
  items: readonly T[],
  atOnce: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<readonly Settled<R>[]> {
  const results: Settled<R>[] = [];
  const queue = items.entries();
  const run = async (): Promise<void> => {
    for (const [index, item] of queue) {
      results[index] = await work(item, index).catch((error: unknown) => TwofoldError.from(error));
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, run));
  return results;
}

function next<R>(results: Iterator<R, undefined>): R {
  const result = results.next();
  if (result.done === true) throw new RangeError('an item was not settled');
  return result.value;
}
