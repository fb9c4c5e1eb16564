/** Routes that read keys. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/keys.ts';
import { findSuite } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { entityTag, keyResource, summaryResource, versionResource } from './key-resource.ts';
import { PageTokens } from './page-token.ts';
import { publicKeyResource, publicKeySet } from './public-key.ts';
import { route } from './route.ts';
import type { Grant } from '../access/grant.ts';
import type { KeyVersion } from '../keyring/model.ts';
import type { KeyView } from '../keyring/operations.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { AuditNotes } from './notes.ts';
import type { PageScope } from './page-token.ts';
import type { GuardedRoute } from './route.ts';

type Dependencies = Pick<HttpDependencies, 'read' | 'token' | 'engine' | 'pageTokenKey'>;

interface Reading {
  readonly grant: Grant<'keys.read'>;
  readonly notes: AuditNotes;
}

/** What a page token is bound to. */
export function pageScope(
  list: string,
  grant: Pick<Grant<'keys.read'>, 'namespace' | 'principal'>,
  query: Readonly<Record<string, unknown>>,
): PageScope {
  const filter = { ...query, pageSize: undefined, pageToken: undefined };
  return { list, namespace: grant.namespace, principal: grant.principal, filter };
}

/** @throws TwofoldError version_not_found, or version_not_usable when there is no primary */
function versionIn({ key, versions }: KeyView, wanted: number | undefined): KeyVersion {
  const number = wanted ?? key.primary;
  if (number === null) throw new TwofoldError('version_not_usable', 'The key has no primary.');
  const found = versions.find(({ version }) => version === number);
  if (found === undefined) throw new TwofoldError('version_not_found');
  return found;
}

async function viewOf(read: Dependencies['read'], { grant, notes }: Reading): Promise<KeyView> {
  const view = await read.get(grant);
  notes.keyId(view.key.id);
  return view;
}

function listRoute({ read, pageTokenKey }: Dependencies): GuardedRoute {
  const tokens = new PageTokens(pageTokenKey);
  return route(contract.listKeys, {
    handle: async ({ grant, query }) => {
      const scope = pageScope(contract.listKeys.id, grant, query);
      const { items, nextName } = await read.list(grant, {
        pageSize: query.pageSize ?? DEFAULT_PAGE_SIZE,
        afterName: tokens.open(scope, query.pageToken),
        namePrefix: query.namePrefix ?? null,
        labels: query.labels ?? {},
        suite: query.suite === undefined ? null : findSuite(query.suite).number,
        state: query.state ?? null,
      });
      return {
        body: {
          items: items.map(summaryResource),
          nextPageToken: tokens.seal(scope, nextName),
        },
      };
    },
  });
}

function versionRoutes(deps: Dependencies): readonly GuardedRoute[] {
  const { read, token, pageTokenKey } = deps;
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listVersions, {
      handle: async ({ grant, notes, query }) => {
        const { key, versions } = await viewOf(read, { grant, notes });
        const scope = pageScope(`${contract.listVersions.id}/${key.id}`, grant, query);
        const after = Number(tokens.open(scope, query.pageToken) ?? 0);
        const rest = versions.filter(({ version }) => version > after);
        const shown = rest.slice(0, query.pageSize ?? DEFAULT_PAGE_SIZE);
        const last = shown.length < rest.length ? (shown.at(-1)?.version ?? null) : null;
        const nextPageToken = tokens.seal(scope, last === null ? null : String(last));
        const tombstones = await read.tombstones(grant, { key, versions: shown });
        const items = shown.map((version) => versionResource(key, version, token, tombstones));
        return { body: { items, nextPageToken } };
      },
    }),
    route(contract.getVersion, {
      handle: async ({ grant, notes, params }) => {
        const view = await viewOf(read, { grant, notes });
        const version = versionIn(view, params.version);
        const tombstones = await read.tombstones(grant, { ...view, versions: [version] });
        return { body: versionResource(view.key, version, token, tombstones) };
      },
    }),
  ];
}

function publicKeyRoutes({ read, engine, token }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.getPublicKey, {
      handle: async ({ grant, notes, query }) => {
        const view = await viewOf(read, { grant, notes });
        const version = versionIn(view, query.version);
        const { format = 'pem' } = query;
        return { body: publicKeyResource(engine, view.key, version, { format, now: token.now() }) };
      },
    }),
    route(contract.getJwks, {
      handle: async ({ grant, notes }) => {
        const view = await viewOf(read, { grant, notes });
        return { body: { keys: publicKeySet(engine, view) } };
      },
    }),
  ];
}

export function keyRoutes(deps: Dependencies): readonly GuardedRoute[] {
  const { read, token } = deps;
  return [
    listRoute(deps),
    route(contract.getKey, {
      handle: async ({ grant, notes }) => {
        const view = await viewOf(read, { grant, notes });
        // Of a living key nothing is told of what it lost.
        const destroyed = view.key.destroyedAt !== null || view.key.destruction !== null;
        const tombstones = destroyed ? await read.tombstones(grant, view) : undefined;
        const body = keyResource(view, token, tombstones);
        return { body, headers: { ETag: entityTag(view.key) } };
      },
    }),
    ...versionRoutes(deps),
    ...publicKeyRoutes(deps),
  ];
}
