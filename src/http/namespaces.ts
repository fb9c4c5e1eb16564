/** Routes of namespaces. */
import * as contract from '../contract/namespaces.ts';
import { TwofoldError } from '../errors.ts';
import { REMOVED_PREFIX, ROOT_NAMESPACE } from '../governance/namespaces.ts';
import { answerSet, memberTag, pageOfMembers } from './governed.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { Namespace } from '../governance/namespaces.ts';
import type { Member, PreparedSetChange } from '../governance/sealed-set.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

const ROOT = {
  name: ROOT_NAMESPACE,
  description: 'The root namespace.',
  state: 'active',
  suspension: null,
  createdAt: null,
  updatedAt: null,
  updatedBy: null,
  revision: 0,
} as const;

function resource({ name, revision, at, by, value }: Member<Namespace>) {
  const { description, createdAt, suspension } = value;
  return {
    name,
    description,
    state: suspension === null ? ('active' as const) : ('suspended' as const),
    suspension: suspension && { at: suspension.at.toISOString(), reason: suspension.reason },
    createdAt: createdAt.toISOString(),
    updatedAt: at.toISOString(),
    updatedBy: by,
    revision,
  };
}

/** The namespace as it is after the change; where nothing changed or it is gone, as it was. */
const shownOf =
  (unchanged: () => Member<Namespace> | undefined) =>
  ({ changes: [change], detail }: PreparedSetChange<Namespace>): object => {
    const member = change?.after ?? change?.before ?? unchanged();
    if (member === undefined) throw new TwofoldError('not_found');
    return { ...resource(member), ...(change?.after === null ? endOf(detail) : {}) };
  };

/** What went with it, by kind. */
function endOf(detail: PreparedSetChange<Namespace>['detail']) {
  const removed = Object.entries(detail)
    .filter(([name]) => name.startsWith(REMOVED_PREFIX))
    .map(([name, count]) => [name.slice(REMOVED_PREFIX.length), count]);
  return { deleted: true, removed: Object.fromEntries(removed) as Record<string, number> };
}

type Dependencies = Pick<HttpDependencies, 'governance' | 'pageTokenKey'>;

function readingRoutes({ governance, pageTokenKey }: Dependencies): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listNamespaces, {
      handle: async (call) => {
        const view = await governance.namespaces.list(call.grant);
        const { id } = contract.listNamespaces;
        const page = pageOfMembers(tokens, id, call, view, resource);
        const first = call.query.pageToken === undefined;
        return { body: { ...page, items: first ? [ROOT, ...page.items] : page.items } };
      },
    }),
    route(contract.getNamespace, {
      handle: async ({ grant, params }) => {
        const { members } = await governance.namespaces.list(grant);
        if (params.namespace === ROOT_NAMESPACE) return { body: ROOT };
        const member = members.get(params.namespace);
        if (member === undefined) throw new TwofoldError('not_found');
        return { body: resource(member), headers: memberTag(member) };
      },
    }),
  ];
}

function changingRoutes({ governance }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.createNamespace, {
      handle: (call) => {
        const { name, description = '' } = call.body;
        const show = shownOf(() => undefined);
        return answerSet(
          call,
          show,
          (run) => governance.namespaces.create(call.grant, { name, description }, run),
          201,
        );
      },
    }),
    route(contract.suspendNamespace, {
      handle: async (call) => {
        const { members } = await governance.namespaces.list(call.grant);
        const input = { name: call.params.namespace, reason: call.body.reason };
        const show = shownOf(() => members.get(input.name));
        return answerSet(call, show, (run) =>
          governance.namespaces.suspend(call.grant, input, run),
        );
      },
    }),
    route(contract.resumeNamespace, {
      handle: async (call) => {
        const { members } = await governance.namespaces.list(call.grant);
        const input = { name: call.params.namespace, reason: call.body.reason };
        const show = shownOf(() => members.get(input.name));
        return answerSet(call, show, (run) => governance.namespaces.resume(call.grant, input, run));
      },
    }),
    route(contract.deleteNamespace, {
      handle: (call) => {
        const show = shownOf(() => undefined);
        return answerSet(call, show, (run) =>
          governance.namespaces.remove(call.grant, call.params.namespace, run),
        );
      },
    }),
  ];
}

export function namespaceRoutes(deps: Dependencies): readonly GuardedRoute[] {
  return [...readingRoutes(deps), ...changingRoutes(deps)];
}
