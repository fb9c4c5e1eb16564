/**
 * Events in the order of their places. Pages are committed reads: an old primary could show an event
 * of an epoch that the new one gives to another change, which its reader would then never see.
 */
import { TwofoldError } from '../errors.ts';
import type { EventPage, EventPlace, EventQuery, EventStore } from '../keyring/event-ports.ts';
import { eventFromRow } from './event-rows.ts';
import type { EventRow } from './event-rows.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGates } from './read-gate.ts';
import { COMMITTED, commitStatement, committedRead, committing } from './transaction.ts';

const eventsAfter = (upTo: string): string => `select e.epoch, e.n, e.type, e.namespace, e.key_id,
    e.key_name, e.at, e.audit_id, e.data
  from public.event e
  where e.namespace = $1 and (e.epoch, e.n) > ($2::bigint, $3::integer) and ${upTo}
    and ($5::text is null or e.type = $5) and ($6::uuid is null or e.key_id = $6)
  order by e.epoch, e.n limit $7`;

/** Exported for the test that looks at how it is planned. */
export const EVENTS_AFTER = eventsAfter('e.epoch <= $4::bigint');

const PAGE = committing({
  name: 'events_page',
  text: `select s.epoch as now, h.epoch as gone_epoch, h.n as gone_n,
      null as seen_epoch, null as seen_n, e.*
    from ${COMMITTED} cross join public.security_epoch s
    left join public.event_horizon h on h.namespace = $1
    left join lateral (${EVENTS_AFTER}) e on true`,
});

/** Events that a page with a filter looks at, which no index answers: some milliseconds. */
const LOOKED_AT = 5_000;
/** `b` is the last of them; without it there are fewer. */
const PAGE_OF_FILTER = committing({
  name: 'events_page_of_filter',
  text: `select s.epoch as now, h.epoch as gone_epoch, h.n as gone_n,
      b.epoch as seen_epoch, b.n as seen_n, e.*
    from ${COMMITTED} cross join public.security_epoch s
    left join public.event_horizon h on h.namespace = $1
    left join lateral (select epoch, n from public.event
      where namespace = $1 and (epoch, n) > ($2::bigint, $3::integer) and epoch <= $4::bigint
      order by epoch, n offset ${String(LOOKED_AT - 1)} limit 1) b on true
    left join lateral (${eventsAfter(
      '(e.epoch, e.n) <= (coalesce(b.epoch, $4::bigint), coalesce(b.n, 2147483647))',
    )}) e on true`,
});

/** Above every epoch. */
const NO_END = Number.MAX_SAFE_INTEGER;

interface Standing {
  readonly now: string;
  readonly gone_epoch: string | null;
  readonly gone_n: number | null;
  readonly seen_epoch: string | null;
  readonly seen_n: number | null;
}
type PageRow = Standing & (EventRow | { readonly epoch: null });

const isEvent = (row: PageRow): row is Standing & EventRow => row.epoch !== null;

export const createEventStore = (pool: GuardedPool, { searches }: ReadGates): EventStore => ({
  page: (query) => searches.run(() => page(pool, query)),

  expire: async (before, limit) => {
    const { rows } = await commitStatement<{ removed: number }>(
      pool,
      'select public.expire_events($1,$2) as removed',
      [before, limit],
    ).catch(refuse);
    return rows[0]?.removed ?? 0;
  },
});

async function page(pool: GuardedPool, query: EventQuery): Promise<EventPage> {
  const { namespace, after, until, type, keyId, pageSize } = query;
  const statement = type === null && keyId === null ? PAGE : PAGE_OF_FILTER;
  const rows = await committedRead<PageRow>(pool, statement, [
    namespace,
    after?.epoch ?? 0,
    after?.n ?? 0,
    until ?? NO_END,
    type,
    keyId,
    pageSize,
  ]).catch(refuse);
  const [first] = rows;
  if (first === undefined) throw new TwofoldError('internal', 'There is no security epoch.');
  const now = Number(first.now);
  if (after !== null) requireReachable(after, first, now);
  const items = rows.filter(isEvent).map(eventFromRow);
  const last = items.at(-1);
  if (last !== undefined && items.length >= pageSize) {
    return { items, next: { epoch: last.epoch, n: last.n }, more: true };
  }
  if (first.seen_epoch !== null) {
    const seen = { epoch: Number(first.seen_epoch), n: first.seen_n ?? 0 };
    return { items, next: seen, more: true };
  }
  return { items, next: pastAll(after, Math.min(until ?? now, now)), more: false };
}

/** Everything of `epoch` has been looked at. A place never moves back. */
function pastAll(after: EventPlace | null, epoch: number): EventPlace {
  if (after !== null && after.epoch > epoch) return after;
  return { epoch: epoch + 1, n: 0 };
}

function requireReachable(after: EventPlace, standing: Standing, now: number): void {
  const { gone_epoch: goneEpoch, gone_n: goneN } = standing;
  if (goneEpoch !== null && isBefore(after, { epoch: Number(goneEpoch), n: goneN ?? 0 })) {
    throw new TwofoldError('events_expired', 'Events after this place were removed.');
  }
  // One past all is the furthest that was ever given; a restored backup can be behind it.
  if (isBefore({ epoch: now + 1, n: 0 }, after)) {
    throw new TwofoldError('invalid_value', 'The place is ahead of this database.');
  }
}

const isBefore = (a: EventPlace, b: EventPlace): boolean =>
  a.epoch < b.epoch || (a.epoch === b.epoch && a.n < b.n);
