/** Waits for what another process does. */
import { setTimeout as sleep } from 'node:timers/promises';

export const eventually = async (
  holds: () => Promise<boolean>,
  milliseconds = 30_000,
): Promise<void> => {
  const until = performance.now() + milliseconds;
  while (!(await holds())) {
    if (performance.now() > until) throw new Error(`not so after ${milliseconds} ms`);
    await sleep(20);
  }
};
