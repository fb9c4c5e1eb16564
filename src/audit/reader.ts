/** Looking entries up: what comes from the database is believed only as far as its bytes say so. */
import { TwofoldError } from '../errors.ts';
import { indexText } from './batch.ts';
import { columnsFit } from './columns.ts';
import { leafHash } from './entry.ts';
import type { Entry } from './entry.ts';
import { decodeEntry } from './entry-decoder.ts';
import type { DecodedEntry } from './entry-decoder.ts';
import type {
  AuditCursor,
  AuditId,
  AuditQuery,
  AuditRecord,
  AuditStore,
  StoredEntry,
  Within,
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
  return stored === null ? null : recordOf(findable(stored), stored);
}

/** Entries are up to 64 KiB long, so what a page holds is bounded by their bytes too. */
const PAGE_BYTES = 4 * 1024 * 1024;
/** Entries that a page looks at for what no column tells. */
const LOOKED_AT = 1024;
/** Rows that are read at once: never much more than a page may hold. */
const CHUNK = 64;

/**
 * One page: at most `pageSize` entries, and none after the one that takes it over 4 MiB. Index columns
 * only find candidates; the decoded entry decides, and one whose columns say something else ends the
 * list with `integrity_failed`. `next` is null once there are no more candidates; where the store looked
 * at as many as it may in one step, the page ends there.
 */
export async function listEntries(
  store: Pick<AuditStore, 'entries'>,
  query: AuditQuery,
): Promise<{ readonly items: readonly AuditRecord[]; readonly next: AuditCursor | null }> {
  const indexedQuery = asIndexed(query);
  const items: AuditRecord[] = [];
  let after = query.after;
  let rest = query.within === undefined ? query.pageSize : LOOKED_AT;
  let bytes = 0;
  while (rest > 0 && bytes < PAGE_BYTES) {
    const pageSize = Math.min(rest, CHUNK);
    const page = await store.entries({ ...indexedQuery, after, pageSize });
    for (const stored of page.entries) {
      if (bytes >= PAGE_BYTES || items.length >= query.pageSize) return { items, next: after };
      const entry = findable(stored);
      if (matches(entry, query)) items.push(recordOf(entry, stored));
      after = { lane: stored.lane, n: stored.n };
      bytes += stored.body.length;
    }
    if (page.next === null || page.entries.length < pageSize) return { items, next: page.next };
    if (items.length >= query.pageSize) break;
    rest -= pageSize;
  }
  return { items, next: after };
}

/** @throws TwofoldError `integrity_failed` when the stored bytes are not the entry of their place */
export const recordFrom = (stored: Bytes): AuditRecord => recordOf(verified(stored), stored);

type Bytes = Omit<StoredEntry, 'columns'>;

/** An entry whose columns say something else is hidden from lists: what shows it says so. */
function findable(stored: StoredEntry): DecodedEntry {
  const entry = verified(stored);
  if (!columnsFit(entry, stored.columns)) throw new TwofoldError('integrity_failed');
  return entry;
}

/** Decodes, and checks the leaf and that the entry was written for this place. */
function verified(stored: Bytes): DecodedEntry {
  const entry = decodeEntry(stored.body);
  const sound =
    Buffer.compare(leafHash(stored.body), stored.leaf) === 0 &&
    entry.lane === stored.lane &&
    entry.n === stored.n;
  if (!sound) throw new TwofoldError('integrity_failed');
  return entry;
}

function recordOf(entry: DecodedEntry, stored: Bytes): AuditRecord {
  const { version, lane, n, at, zone, previous, epoch, instance, ...draft } = entry;
  const { leaf, body } = stored;
  const place = { id: `${lane}-${n}`, lane, n, at, zone, instance, epoch, previous };
  return { ...place, version, leaf, body, draft };
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
    (query.until === null || entry.at < query.until) &&
    (query.within === undefined || isWithin(entry, query.within))
  );
}

function isWithin(entry: Entry, { contextHmac, aadHmac, context = {} }: Within): boolean {
  const same = (wanted: Uint8Array | undefined, actual: Uint8Array | null): boolean =>
    wanted === undefined || (actual !== null && Buffer.compare(wanted, actual) === 0);
  const { loggedContext } = entry;
  return (
    same(contextHmac, entry.contextHmac) &&
    same(aadHmac, entry.aadHmac) &&
    Object.entries(context).every(
      ([name, value]) => Object.hasOwn(loggedContext, name) && loggedContext[name] === value,
    )
  );
}
