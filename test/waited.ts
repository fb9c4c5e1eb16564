/** How long others kept a process from running, which a bound in seconds is not to count. */
import { readFileSync } from 'node:fs';

/** Milliseconds that the main thread of a process has stood in line for a processor so far. */
export const waitedForProcessor = (pid: number | 'self' = 'self'): number => {
  const [, nanoseconds = '0'] = readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ');
  return Number(nanoseconds) / 1e6;
};

/** Milliseconds since this call, less those for which the test itself stood in line for a processor. */
export const stopwatch = (): (() => number) => {
  const [from, waited] = [performance.now(), waitedForProcessor()];
  return () => performance.now() - from - (waitedForProcessor() - waited);
};
