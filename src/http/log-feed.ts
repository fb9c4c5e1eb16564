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
/** Checkpoints come every 2 s. */
const EVERY_MS = 500;

/** Exact matches; null: any. */
export interface EntryFilter {
  readonly operation: string | null;
  readonly keyRef: string | null;
  readonly keyId: string | null;
  readonly subject: string | null;
  readonly outcome: string | null;
}

const isWanted = (filter: EntryFilter, { draft }: AuditRecord): boolean => {
  const facts: EntryFilter = { ...draft, subject: draft.actor.subject };
  const names = ['operation', 'keyRef', 'keyId', 'subject', 'outcome'] as const;
  return names.every((name) => filter[name] === null || filter[name] === facts[name]);
};

export class EntryFeed implements Feed {
  readonly operation = 'audit.read';
  readonly everyMs = EVERY_MS;
  readonly #deps: Pick<HttpDependencies, 'log' | 'epoch'>;
  readonly #namespace: string;
  readonly #filter: EntryFilter;
  /** The next index to look at; null: the end of the log as it is found. */
  #from: number | null;

  constructor(
    deps: Pick<HttpDependencies, 'log' | 'epoch'>,
    grant: Grant<'audit.read'>,
    from: number | null,
    filter: EntryFilter,
  ) {
    this.#deps = deps;
    this.#namespace = grant.namespace;
    this.#from = from;
    this.#filter = filter;
  }

  async check(): Promise<void> {
    const { size } = await this.#deps.log.head();
    this.#from ??= size;
  }

  async next(): Promise<FeedPage> {
    const from = this.#from ?? 0;
    const { size } = await this.#deps.log.head();
    const until = Math.min(size, from + PAGE);
    const entries = from < until ? await this.#deps.log.entries(from, until) : [];
    const items: FeedItem[] = [];
    for (const [at, entry] of entries.entries()) {
      if (entry.index !== from + at) throw new TwofoldError('integrity_failed');
      const record = recordFrom(entry);
      if (record.epoch > this.#deps.epoch.current) break;
      this.#from = entry.index + 1;
      const isOurs = record.draft.namespace === this.#namespace;
      if (isOurs && isWanted(this.#filter, record)) items.push(itemOf(entry, record));
    }
    const looked = this.#from ?? 0;
    const place = looked === 0 ? null : String(looked - 1);
    return { items, place, more: looked === until && until < size };
  }
}

const itemOf = ({ index }: SequencedEntry, record: AuditRecord): FeedItem => ({
  id: String(index),
  data: renderPublicJson({ index, ...entryResource(record) }),
});
