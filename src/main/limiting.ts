/** The limiter of this process: what it holds goes back to the database at the stop. */
import type { Config } from '../config.ts';
import type { SecurityEpoch } from '../epoch.ts';
import type { HttpDependencies } from '../http/dependencies.ts';
import { LimitGate } from '../http/limit-gate.ts';
import { LimitRefusals } from '../http/limit-refusals.ts';
import { Limiter } from '../limits/limiter.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/logs.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { LateParts } from './late-parts.ts';
import type { Unwinding } from './unwinding.ts';

/** How often it is seen to what is held of quotas and not used. */
const LOOK_MS = 1_000;

export interface LimitingParts {
  readonly config: Config;
  readonly store: Pick<Store, 'limits'>;
  readonly late: LateParts;
  readonly epoch: SecurityEpoch;
  readonly metrics: Metrics;
  readonly log: Log;
}

export function openLimits(parts: LimitingParts, unwinding: Unwinding): HttpDependencies['limits'] {
  const { config, store, late, epoch, metrics, log } = parts;
  const limiter = new Limiter({
    store: store.limits,
    onTrouble: (err) => log.warn({ err }, 'no allowance could be had'),
  });
  const timer = setInterval(() => limiter.giveBack(), LOOK_MS).unref();
  unwinding.add('allowance', () => {
    clearInterval(timer);
    return limiter.close();
  });
  metrics.gauge('rate_limits', 'What the rate limits did since the start.', () => ({
    ...limiter.figures,
    buckets: limiter.size,
  }));
  return {
    gate: new LimitGate({
      limiter,
      governance: late.governance.port,
      keys: late.references.port,
      settings: config.limits,
    }),
    refusals: new LimitRefusals({
      audit: late.audit,
      epoch,
      onTrouble: (err) => log.warn({ err }, 'counts of refusals could not be written'),
    }),
    usage: store.limits,
  };
}
