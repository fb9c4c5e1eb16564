/** Looking entries up: what comes from the database is believed only as far as its bytes say so. */
import { TwofoldError } from '../errors.ts';
import { indexText } from './batch.ts';
import { leafHash } from './entry.ts';
import type { Entry } from './entry.ts';
import { decodeEntry } from './entry-decoder.ts';
import type {
  AuditCursor,
  AuditId,
  AuditQuery,
  AuditRecord,
  AuditStore,
  StoredEntry,
} from './ports.ts';

/** Lanes are numbered by a 32-bit column. */
const LARGEST_LANE = 2 ** 31 - 1;
const ID = /^(?<lane>[1-9]\d{0,14})-(?<n>[1-9]\d{0,14})$/u;

/** `<lane>-<n>`, in the one form that we write; null for anything else. */
export function parseAuditId(id: AuditId): AuditCursor | null {
  const { lane, n } = ID.exec(id)?.groups ?? {};
  if (lane === undefined || n === undefined || Number(lane) > LARGEST_LANE) return null;
  return { lane: Number(lane), n: Number(n) };
}

/** @throws TwofoldError `integrity_failed` when the stored bytes are not the entry of their place */
export async function readEntry(
  store: Pick<AuditStore, 'entry'>,
  id: AuditId,
): Promise<AuditRecord | null> {
  const place = parseAuditId(id);
  if (place === null) return null;
  const stored = await store.entry(place.lane, place.n);
  return stored === null ? null : recordFrom(stored);
}

/** Entries are up to 64 KiB long, so what a page holds is bounded by their bytes too. */
const PAGE_BYTES = 4 * 1024 * 1024;
/** Rows that are read at once: never much more than a page may hold. */
const CHUNK = 64;

/**
 * One page: at most `pageSize` entries, and none after the one that takes it over 4 MiB. Index columns
 * only find candidates; the decoded entry decides, so that an edited column cannot make an entry
 * appear under another name. `next` is null once there are no more candidates; where the store looked
 * at as many as it may in one step, the page ends there.
 */
export async function listEntries(
  store: Pick<AuditStore, 'entries'>,
  query: AuditQuery,
): Promise<{ readonly items: readonly AuditRecord[]; readonly next: AuditCursor | null }> {
  const indexedQuery = asIndexed(query);
  const items: AuditRecord[] = [];
  let after = query.after;
  let rest = query.pageSize;
  let bytes = 0;
  while (rest > 0 && bytes < PAGE_BYTES) {
    const pageSize = Math.min(rest, CHUNK);
    const page = await store.entries({ ...indexedQuery, after, pageSize });
    for (const stored of page.entries) {
      if (bytes >= PAGE_BYTES) return { items, next: after };
      const entry = verified(stored);
      if (matches(entry, query)) items.push(recordOf(entry, stored));
      after = { lane: stored.lane, n: stored.n };
      bytes += stored.body.length;
    }
    if (page.next === null || page.entries.length < pageSize) return { items, next: page.next };
    rest -= pageSize;
  }
  return { items, next: after };
}

/** @throws TwofoldError `integrity_failed` when the stored bytes are not the entry of their place */
export const recordFrom = (stored: StoredEntry): AuditRecord => recordOf(verified(stored), stored);

/** Decodes, and checks the leaf and that the entry was written for this place. */
function verified(stored: StoredEntry): Entry {
  const entry = decodeEntry(stored.body);
  const sound =
    Buffer.compare(leafHash(stored.body), stored.leaf) === 0 &&
    entry.lane === stored.lane &&
    entry.n === stored.n;
  if (!sound) throw new TwofoldError('integrity_failed');
  return entry;
}

function recordOf(entry: Entry, stored: StoredEntry): AuditRecord {
  const { lane, n, at, zone, previous, epoch, instance, ...draft } = entry;
  const { leaf, body } = stored;
  return { id: `${lane}-${n}`, lane, n, at, zone, instance, epoch, previous, leaf, body, draft };
}

const asIndexed = (query: AuditQuery): AuditQuery => ({
  ...query,
  namespace: indexText(query.namespace),
  operation: indexed(query.operation),
  keyRef: indexed(query.keyRef),
  subject: indexed(query.subject),
  outcome: indexed(query.outcome),
});

const indexed = (value: string | null): string | null => (value === null ? null : indexText(value));

function matches(entry: Entry, query: AuditQuery): boolean {
  const same = (wanted: string | null, actual: string | null): boolean =>
    wanted === null || wanted === actual;
  return (
    same(query.namespace, entry.namespace) &&
    same(query.operation, entry.operation) &&
    same(query.keyId, entry.keyId) &&
    same(query.keyRef, entry.keyRef) &&
    same(query.subject, entry.actor.subject) &&
    same(query.outcome, entry.outcome) &&
    (query.from === null || entry.at >= query.from) &&
    (query.until === null || entry.at < query.until)
  );
}
