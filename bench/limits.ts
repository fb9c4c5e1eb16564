/** What counting a request against its limits costs, in one process and without a database. */
import { limitHeaders } from '../src/http/limit-gate.ts';
import { Limiter } from '../src/limits/limiter.ts';
import { rateOf } from '../src/limits/rate.ts';
import type { LeaseStore } from '../src/limits/ports.ts';
import type { Limit } from '../src/limits/rate.ts';

const REQUESTS = 20_000;
const ROUNDS = 25;
const PRINCIPALS = 10_000;

/** Microseconds a request against three limits, and a refused one; medians over rounds. */
export interface LimitCosts {
  readonly allowed: number;
  readonly refused: number;
}

const FULL: LeaseStore = {
  lease: (requests) =>
    Promise.resolve(requests.map(({ wanted, burst }) => ({ granted: wanted, available: burst }))),
};
const EMPTY: LeaseStore = {
  lease: (requests) => Promise.resolve(requests.map(() => ({ granted: 0, available: -1e9 }))),
};

async function costOf(store: LeaseStore): Promise<number> {
  const limiter = new Limiter({ store });
  const rate = rateOf(60_000_000);
  const owner = 'default';
  const subjects = Array.from({ length: PRINCIPALS }, (_, n) => `subject-${String(n)}`);
  // Named anew for each request, as the gate does.
  const limitsOf = (n: number): readonly Limit[] => [
    {
      name: 'principal.use',
      bucket: `n/default/p/use/${subjects[n % PRINCIPALS] ?? ''}`,
      owner,
      rate,
    },
    { name: 'namespace.use', bucket: 'n/default/n/use', owner, rate },
    { name: 'key.use', bucket: `n/k/use/${String(n % 10)}`, owner, rate },
  ];
  const asked = Array.from({ length: REQUESTS }, (_, n) => n);
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const started = performance.now();
    for (const n of asked) {
      const limits = limitsOf(n);
      limiter.charge(limits, 1);
      limitHeaders(limits, (limit) => limiter.remaining(limit));
    }
    rounds.push(((performance.now() - started) * 1_000) / REQUESTS);
    await limiter.settled();
  }
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1] ?? 0;
}

export const measureLimits = async (): Promise<LimitCosts> => ({
  allowed: await costOf(FULL),
  refused: await costOf(EMPTY),
});

export const renderLimits = ({ allowed, refused }: LimitCosts): string =>
  [
    'limits: microseconds a request against three limits, headers included',
    `  let through  ${allowed.toFixed(2)}`,
    `  refused      ${refused.toFixed(2)}`,
    '',
  ].join('\n');
