/**
 * Entries of one namespace as the log takes them, by index. An entry is sent once this process knows the
 * epoch that it was written under, so that every change of access before it has been taken in.
 */
import { recordFrom } from '../audit/reader.ts';
import { TwofoldError } from '../errors.ts';
import { entryResource } from './audit.ts';
import { renderPublicJson } from './render.ts';
import type { Grant } from '../access/grant.ts';
import type { SequencedEntry } from '../audit/log-ports.ts';
import type { AuditRecord } from '../audit/ports.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { Feed, FeedItem, FeedPage } from './feed.ts';

/** Entries that are looked at at once. */
const PAGE = 64;
/** While nothing of the time that is asked for was found: an hour may have to be passed over. */
const SEEKING_PAGE = 512;
/** Checkpoints come every 2 s. */
const EVERY_MS = 500;
/** How far the clocks of those who write entries may be ahead of the database's. */
const CLOCKS_MS = 60_000;

/** Exact matches; null: any. */
export interface EntryFilter {
  readonly operation: string | null;
  readonly keyRef: string | null;
  readonly keyId: string | null;
  readonly subject: string | null;
  readonly outcome: string | null;
}

const fits = (filter: EntryFilter, { draft }: AuditRecord): boolean => {
  const facts: EntryFilter = { ...draft, subject: draft.actor.subject };
  const names = ['operation', 'keyRef', 'keyId', 'subject', 'outcome'] as const;
  return names.every((name) => filter[name] === null || filter[name] === facts[name]);
};

/** Where a feed begins, and whether it goes on once it has given what there was then. */
export interface EntryPlace {
  /** Null: with the first entry of `since`, or else with what comes. */
  readonly from: number | null;
  readonly since: Date | null;
  readonly follow: boolean;
}

type Dependencies = Pick<HttpDependencies, 'log' | 'epoch'>;

export class EntryFeed implements Feed {
  readonly operation = 'audit.read';
  readonly everyMs = EVERY_MS;
  readonly #deps: Dependencies;
  readonly #namespace: string;
  readonly #place: EntryPlace;
  readonly #filter: EntryFilter;
  /** The next index to look at. */
  #from = 0;
  /** Size of the log when it began. */
  #size = 0;
  /** Entries that the log had when it was asked last. */
  #known = 0;
  /** Nothing of the time that is asked for was found yet. */
  #seeking = false;

  constructor(
    deps: Dependencies,
    grant: Grant<'audit.read'>,
    place: EntryPlace,
    filter: EntryFilter,
  ) {
    this.#deps = deps;
    this.#namespace = grant.namespace;
    this.#place = place;
    this.#filter = filter;
  }

  async check(): Promise<void> {
    const { size } = await this.#deps.log.head();
    const { from, since } = this.#place;
    this.#size = size;
    this.#known = size;
    this.#seeking = from === null && since !== null;
    if (from !== null) this.#from = from;
    else this.#from = since === null ? size : await this.#firstSince(since, size);
  }

  async next(): Promise<FeedPage> {
    const from = this.#from;
    const page = this.#seeking ? SEEKING_PAGE : PAGE;
    // What is committed is not asked for again while it will do.
    if (!this.#seeking || from + page > this.#known)
      this.#known = (await this.#deps.log.head()).size;
    const size = this.#place.follow ? this.#known : Math.min(this.#known, this.#size);
    const until = Math.min(size, from + page);
    const entries = from < until ? await this.#deps.log.entries(from, until) : [];
    const items: FeedItem[] = [];
    for (const [at, entry] of entries.entries()) {
      if (entry.index !== from + at) throw new TwofoldError('integrity_failed');
      const record = recordFrom(entry);
      if (record.epoch > this.#deps.epoch.current) break;
      this.#from = entry.index + 1;
      this.#seeking &&= !this.#isOfTime(record);
      if (this.#isWanted(record)) items.push(itemOf(entry, record));
    }
    const place = this.#from === 0 ? null : String(this.#from - 1);
    const end = !this.#place.follow && this.#from >= this.#size;
    return { items, place, more: this.#from === until && until < size, end };
  }

  #isWanted(record: AuditRecord): boolean {
    const isOurs = record.draft.namespace === this.#namespace;
    return isOurs && this.#isOfTime(record) && fits(this.#filter, record);
  }

  #isOfTime({ at }: AuditRecord): boolean {
    const { since } = this.#place;
    return since === null || at >= since;
  }

  /**
   * Entries are written before they get their index, so that of those that a checkpoint before `since` has none is of
   * that time or later, whatever their order: a backlog comes lane by lane, and what a spool held long after. Of those
   * in cold storage nobody knows the time here: a place among them tells where they are.
   */
  async #firstSince(since: Date, size: number): Promise<number> {
    const { log } = this.#deps;
    const [{ removed }, sure] = await Promise.all([
      log.archived(),
      log.sizeAt(new Date(since.getTime() - CLOCKS_MS)),
    ]);
    if (sure >= removed || (await log.sizeAt(since)) < removed) return Math.min(sure, size);
    // An archive up to that time has them by the same checkpoint.
    return Math.min(removed, size);
  }
}

const itemOf = ({ index }: SequencedEntry, record: AuditRecord): FeedItem => ({
  id: String(index),
  data: renderPublicJson({ index, ...entryResource(record) }),
});
