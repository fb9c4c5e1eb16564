/**
 * Events of keys. They are of epochs that this process knows, so every change of access before an
 * event has been taken in when it is sent.
 */
import type { Grant } from '../access/grant.ts';
import type { EventPlace, EventQuery } from '../keyring/event-ports.ts';
import { eventResource, placeText } from './event-resource.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { Feed, FeedPage } from './feed.ts';

/** Events that are read at once. */
const PAGE = 64;

interface Wanted {
  readonly after: EventPlace | null;
  readonly type: string | null;
  readonly keyId: string | null;
}

export class KeyEventFeed implements Feed {
  readonly operation = 'events.read';
  readonly everyMs = null;
  readonly #deps: Pick<HttpDependencies, 'events' | 'epoch'>;
  readonly #namespace: string;
  readonly #wanted: Wanted;
  #after: EventPlace | null;

  constructor(
    deps: Pick<HttpDependencies, 'events' | 'epoch'>,
    grant: Grant<'events.read'>,
    wanted: Wanted,
  ) {
    this.#deps = deps;
    this.#namespace = grant.namespace;
    this.#wanted = wanted;
    this.#after = wanted.after;
  }

  /** @throws TwofoldError as `EventStore.page` */
  async check(): Promise<void> {
    await this.#deps.events.page({ ...this.#query(), pageSize: 1, until: null });
  }

  async next(): Promise<FeedPage> {
    const { events } = this.#deps;
    const page = await events.page(this.#query());
    this.#after = page.next;
    return {
      items: page.items.map((event) => ({
        id: placeText(event),
        data: JSON.stringify(eventResource(event, events.installation)),
      })),
      place: placeText(page.next),
      more: page.more,
    };
  }

  #query(): EventQuery {
    const { type, keyId } = this.#wanted;
    const until = this.#deps.epoch.current;
    const namespace = this.#namespace;
    return { namespace, after: this.#after, until, type, keyId, pageSize: PAGE };
  }
}
