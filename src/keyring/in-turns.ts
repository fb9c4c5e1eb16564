/**
 * Runs `work` on each item, at most `atOnce` at a time, and answers the results in order. After a
 * failure nothing more begins; the first error is thrown once all that had begun has settled.
 */
export async function inTurns<T, R>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const queue = items.entries();
  let failed = false;
  const run = async (): Promise<void> => {
    for (const [index, item] of queue) {
      if (failed) return;
      try {
        results[index] = await work(item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const runners = Array.from({ length: Math.min(atOnce, items.length) }, run);
  for (const outcome of await Promise.allSettled(runners)) {
    if (outcome.status === 'rejected') throw outcome.reason;
  }
  return results;
}
