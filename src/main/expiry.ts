/** What is old enough goes: records of repeated requests, operations that have long ended, events. */
import type { Config } from '../config.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/logs.ts';
import { EventExpiry } from './event-expiry.ts';
import type { Unwinding } from './unwinding.ts';

const EVERY_MS = 3_600_000;

export function expireOld(store: Store, config: Config, log: Log, unwinding: Unwinding): void {
  const timer = setInterval(() => {
    for (const expired of [store.expireIdempotency(), store.expireOperations()]) {
      expired.catch((err: unknown) => log.warn({ err }, 'old records were not removed'));
    }
  }, EVERY_MS).unref();
  unwinding.add('expiry of records', () => clearInterval(timer));
  const events = new EventExpiry(store.events, config.events.retention, (err) => {
    log.warn({ err }, 'old events were not removed');
  });
  unwinding.add('event expiry', () => events.stop());
}
