/** An entry that someone waits for. */
import { TwofoldError } from '../errors.ts';
import type { EpochStanding } from '../epoch.ts';
import type { Unplaced } from './batch.ts';
import type { AuditId } from './ports.ts';

/**
 * Settles once: durable, stale, refused, or given up by its waiter at the deadline. An entry that was
 * given up is not sent any more; one that was sent may still become durable, which does no harm, as
 * no result left.
 */
export class Pending {
  readonly entry: Unplaced;
  /** Null for the log's own entries, which no change touches. */
  readonly standing: EpochStanding | null;
  /** Whether what it is the entry of may leave once that is in the spool alone. */
  readonly spoolable: boolean;
  readonly durable: Promise<AuditId>;
  readonly #resolve: (id: AuditId) => void;
  readonly #reject: (error: Error) => void;
  readonly #timer: NodeJS.Timeout | null;
  #settled = false;

  /** `deadlineMs` null: waits for as long as it takes. */
  constructor(
    entry: Unplaced,
    standing: EpochStanding | null,
    deadlineMs: number | null,
    spoolable = false,
  ) {
    const { promise, resolve, reject } = Promise.withResolvers<AuditId>();
    this.entry = entry;
    this.standing = standing;
    this.spoolable = spoolable;
    this.durable = promise;
    // Nobody may wait for an entry of the log's own; its failure is no failure of the process.
    promise.catch(() => undefined);
    this.#resolve = resolve;
    this.#reject = reject;
    this.#timer = deadlineMs === null ? null : setTimeout(() => this.reject(late()), deadlineMs);
  }

  get settled(): boolean {
    return this.#settled;
  }

  resolve(id: AuditId): void {
    if (this.#settle()) this.#resolve(id);
  }

  reject(error: Error): void {
    if (this.#settle()) this.#reject(error);
  }

  #settle(): boolean {
    if (this.#settled) return false;
    this.#settled = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    return true;
  }
}

export const late = (): TwofoldError =>
  new TwofoldError('audit_unavailable', 'The audit entry was not durable in time.', {
    retryAfter: 1,
  });
