/** The route that shows tokens which were made on the machine. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/local-tokens.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { ListedToken } from '../governance/local-tokens.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

const resource = ({ kind, member: { name: id, value }, state }: ListedToken) => ({
  id,
  kind,
  namespace: value.namespace,
  reason: value.reason,
  openedBy: value.openedBy,
  openedAt: value.openedAt.toISOString(),
  expiresAt: value.expiresAt.toISOString(),
  usedAt: value.usedAt?.toISOString() ?? null,
  state,
});

type Dependencies = Pick<HttpDependencies, 'governance' | 'pageTokenKey'>;

export function localTokenRoutes({
  governance,
  pageTokenKey,
}: Dependencies): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listLocalTokens, {
      handle: async ({ grant, query }) => {
        const scope = pageScope(contract.listLocalTokens.id, grant, query);
        const after = tokens.open(scope, query.pageToken) ?? '';
        const all = await governance.localTokens.list(grant);
        const rest = all
          .filter(({ member }) => member.name > after)
          .toSorted((a, b) => (a.member.name < b.member.name ? -1 : 1));
        const items = rest.slice(0, query.pageSize ?? DEFAULT_PAGE_SIZE);
        const last = items.length < rest.length ? (items.at(-1)?.member.name ?? null) : null;
        return { body: { items: items.map(resource), nextPageToken: tokens.seal(scope, last) } };
      },
    }),
  ];
}
