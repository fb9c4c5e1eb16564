/** Resident memory over many operations. */
import { readFileSync } from 'node:fs';

import type { Target } from './client.ts';
import { closedLoop } from './load.ts';
import type { Bound } from './report.ts';

const SAMPLE_EVERY = 1_000;
const MAX_RSS = 300e6;
const MAX_SLOPE = 50;

interface Sample {
  readonly at: number;
  readonly bytes: number;
}

/** RSS at the end, and its slope over the second half less what the token itself leaks per object. */
export async function memoryBounds(
  pid: number,
  target: Target,
  request: Buffer,
  { operations, leak }: { readonly operations: number; readonly leak: number },
): Promise<readonly Bound[]> {
  const samples: Sample[] = [];
  const onEach = (index: number): void => {
    if (index % SAMPLE_EVERY === 0) samples.push({ at: index, bytes: rss(pid) });
  };
  await closedLoop(target, request, { inFlight: 16, requests: operations, onEach });
  const end = rss(pid);
  const slope = leastSquares(samples.filter(({ at }) => at >= operations / 2)) - leak;
  return [
    {
      what: `RSS after ${String(operations)} unwraps`,
      figure: `${(end / 1e6).toFixed(0)} MB`,
      bound: '< 300 MB',
      met: end < MAX_RSS,
    },
    {
      what: 'slope of the second half, less the token’s leak',
      figure: `${slope.toFixed(0)} B/operation (token ${leak.toFixed(0)} B)`,
      bound: '< 50 B',
      met: slope < MAX_SLOPE,
    },
  ];
}

function rss(pid: number): number {
  const status = readFileSync(`/proc/${String(pid)}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
}

function leastSquares(samples: readonly Sample[]): number {
  const n = samples.length;
  const meanX = samples.reduce((sum, { at }) => sum + at, 0) / n;
  const meanY = samples.reduce((sum, { bytes }) => sum + bytes, 0) / n;
  const covariance = samples.reduce(
    (sum, { at, bytes }) => sum + (at - meanX) * (bytes - meanY),
    0,
  );
  return covariance / samples.reduce((sum, { at }) => sum + (at - meanX) ** 2, 0);
}
