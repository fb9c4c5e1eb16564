/**
 * What is old enough goes: records of repeated requests, operations that have long ended, events,
 * checkpoints of the log but the last of each hour, and instances that have ended.
 */
import type { Config } from '../config.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/logs.ts';
import { EVERY_MS, StepwiseExpiry, earlierNow } from './stepwise-expiry.ts';
import type { Unwinding } from './unwinding.ts';

/** Since an instance's last beat: long enough to find out what became of it. */
const INSTANCES_KEPT = 'P30D';

/** All of them; of older ones the last of each hour stays. */
const CHECKPOINTS_KEPT = 'P2D';

/** Full ones say nothing. */
const BUCKETS_KEPT = 'PT1H';

export function expireOld(store: Store, config: Config, log: Log, unwinding: Unwinding): void {
  const clock = () => earlierNow(store.keys);
  const expire = async (): Promise<void> => {
    const now = await clock();
    await Promise.all([store.expireIdempotency(now), store.expireOperations(now)]);
  };
  const timer = setInterval(() => {
    expire().catch((err: unknown) => log.warn({ err }, 'old records were not removed'));
  }, EVERY_MS).unref();
  unwinding.add('expiry of records', () => clearInterval(timer));
  const stepwise = [
    { name: 'events', rows: store.events, retention: config.events.retention },
    { name: 'buckets of limits', rows: store.limits, retention: BUCKETS_KEPT },
    { name: 'checkpoints', rows: store.checkpoints, retention: CHECKPOINTS_KEPT },
    { name: 'instances', rows: store.instances, retention: INSTANCES_KEPT },
  ];
  for (const { name, rows, retention } of stepwise) {
    const onFailure = (err: unknown) => log.warn({ err }, `old ${name} were not removed`);
    const expiry = new StepwiseExpiry(rows, { retention, clock, onFailure });
    unwinding.add(`expiry of ${name}`, () => expiry.stop());
  }
}
