/** How long others kept a process from running, which a bound in seconds is not to count. */
import { readFileSync } from 'node:fs';

/** Milliseconds that the main thread of a process has stood in line for a processor so far. */
export const waitedForProcessor = (pid: number | 'self' = 'self'): number => {
  const [, nanoseconds = '0'] = readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ');
  return Number(nanoseconds) / 1e6;
};
