/**
 * What those who follow the keys are told, and what the keyring asks of its storage for it.
 *
 * A place is (epoch, n): the epoch that the change made and the event's number within it, from 1. The
 * epoch barrier commits epochs in order and without a gap, so whoever has read up to a place has
 * missed nothing before it. `n` may be 0 or any other in a place that only says how far one has read.
 */

export interface EventPlace {
  readonly epoch: number;
  readonly n: number;
}

/** Before the first event. */
export const BEGINNING: EventPlace = Object.freeze({ epoch: 0, n: 0 });

/** An event as its change writes it. */
export interface NewEvent {
  /** Within its change, from 1. */
  readonly n: number;
  /** Such as `key.rotated`. */
  readonly type: string;
  readonly namespace: string;
  readonly keyId: string;
  readonly keyName: string;
  /** Of the change's audit entry. */
  readonly auditId: string;
  /** Plain JSON, without secrets and without values of labels. */
  readonly data: Readonly<Record<string, unknown>>;
}

export interface StoredEvent extends NewEvent, EventPlace {
  readonly at: Date;
}

export interface EventQuery {
  readonly namespace: string;
  /** Events after this place; null: from the oldest that is kept. */
  readonly after: EventPlace | null;
  /** No event of a later epoch; null: up to the database's. */
  readonly until: number | null;
  readonly type: string | null;
  readonly keyId: string | null;
  readonly pageSize: number;
}

export interface EventPage {
  /** Ascending. */
  readonly items: readonly StoredEvent[];
  /** Where to go on: of the last item, or past all that was looked at. */
  readonly next: EventPlace;
  /** Whether there may be more at once: the page is full, or of a filter so much was looked at as a page may. */
  readonly more: boolean;
}

export interface EventStore {
  /**
   * One page in one snapshot of the primary.
   * @throws TwofoldError events_expired when events after `after` were removed; invalid_value for a
   *   place that is ahead of the database; database_unavailable
   */
  page(query: EventQuery): Promise<EventPage>;
  /** Removes the oldest of those before `before`, at most `limit`; answers how many. */
  expire(before: Date, limit: number): Promise<number>;
}
