/**
 * How a write to the database can fail when that is neither "not applied" nor an answer.
 *
 * `store/` throws these, `audit/` catches them. Any other `TwofoldError` of the store
 * (`database_unavailable`, `conflict`, …) says that nothing was written.
 */
import { TwofoldError } from './errors.ts';

/**
 * The statement was sent and nobody knows whether it took effect: the connection broke, the
 * client-side deadline passed, or the server gave up waiting for its standbys. It may still take
 * effect later. Resolved only by identity ((lane, n), version, idempotency key), never by a blind
 * retry. Where nobody resolves it, it is `database_unavailable` to the caller.
 */
export class OutcomeUnknown extends TwofoldError {
  constructor(cause?: unknown) {
    super('database_unavailable', undefined, { cause });
  }
}

export type LaneLoss = 'conflict' | 'closed' | 'gone';

/**
 * A write to an audit lane that was refused as a whole; nothing of it was written.
 * `conflict`: another leaf stands at one of its (lane, n). `closed`: the lane takes no more entries.
 * `gone`: the lane, or what this instance last wrote in it, is not there (a restore, an edited table).
 */
export class LaneLost extends Error {
  override readonly name = 'LaneLost';
  readonly reason: LaneLoss;

  constructor(reason: LaneLoss, options: { readonly cause?: unknown } = {}) {
    super(`audit lane lost: ${reason}`, options);
    this.reason = reason;
  }
}
