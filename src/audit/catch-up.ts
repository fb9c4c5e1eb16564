/** Learning what other instances changed. */
import type { SecurityEpoch } from '../epoch.ts';
import type { Backoff } from './backoff.ts';
import type { AuditStore } from './ports.ts';

export interface EpochSource {
  readonly store: Pick<AuditStore, 'changesSince'>;
  readonly epoch: SecurityEpoch;
}

/** Takes in the changes committed since the epoch known here; safe to run twice at once. */
export async function catchUp({ store, epoch }: EpochSource): Promise<void> {
  epoch.advance(await store.changesSince(epoch.current));
}

/**
 * After a stale answer: catches up, and pauses when that changed nothing (an old primary answers
 * with an epoch that has long passed), so that the next attempt is not made at once.
 */
export async function catchUpOrPause(source: EpochSource, backoff: Backoff): Promise<void> {
  const before = source.epoch.current;
  await catchUp(source).catch(() => undefined);
  if (source.epoch.current === before) await backoff.pause();
}
