/** Routes that tell what happened to keys, and what happens. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/events.ts';
import { eventResource, placeText, storedType } from './event-resource.ts';
import { KeyEventFeed } from './event-feed.ts';
import { route } from './route.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { EventStreams } from './event-stream.ts';
import type { GuardedRoute } from './route.ts';

export function eventRoutes(
  { events, epoch }: Pick<HttpDependencies, 'events' | 'epoch'>,
  streams: EventStreams,
): readonly GuardedRoute[] {
  return [
    route(contract.listEvents, {
      handle: async ({ grant, query }) => {
        const { items, next, more } = await events.page({
          namespace: grant.namespace,
          after: query.after ?? null,
          until: null,
          type: storedType(query.type),
          keyId: query.keyId ?? null,
          pageSize: query.pageSize ?? DEFAULT_PAGE_SIZE,
        });
        const shown = items.map((event) => eventResource(event, events.installation));
        return { body: { items: shown, next: placeText(next), more } };
      },
    }),
    route(contract.streamEvents, {
      handle: async ({ grant, principal, query, headers, requestId, credentials, tlsGroup }) => ({
        body: await streams.open({
          grant,
          principal,
          credentials,
          tlsGroup,
          requestId,
          feed: new KeyEventFeed({ events, epoch }, grant, {
            after: headers['last-event-id'] ?? query.after ?? null,
            type: storedType(query.type),
            keyId: query.keyId ?? null,
          }),
        }),
      }),
    }),
  ];
}
