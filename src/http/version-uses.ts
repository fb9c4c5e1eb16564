/** Routes that tell how much versions are used, and the same for the dry run of a change. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/version-uses.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { KeyVersion } from '../keyring/model.ts';
import type { KeyView } from '../keyring/operations.ts';
import type { AfterUser } from '../keyring/ports.ts';
import { GCM_LIMIT, GCM_ROTATION } from '../keyring/usage.ts';
import type { KeyUses, UsesAbout, VersionUser, VersionUses } from '../keyring/use-report.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

type Dependencies = Pick<HttpDependencies, 'read' | 'pageTokenKey'>;

function counted({ createdAt, version }: KeyVersion, { countedSince, versions }: KeyUses) {
  const found = versions.find((uses) => uses.version === version);
  const lastProtectedAt = found?.protect?.lastAt ?? null;
  const lastProcessedAt = found?.process?.lastAt ?? null;
  const since = latest(createdAt, countedSince);
  const last = latest(lastProtectedAt ?? NEVER, lastProcessedAt ?? NEVER);
  return {
    protectUses: found?.protect?.uses ?? 0,
    processUses: found?.process?.uses ?? 0,
    lastProtectedAt,
    lastProcessedAt,
    countedSince: since,
    silentSince: last > NEVER ? last : since,
  };
}

const NEVER = new Date(0);
const latest = (a: Date, b: Date): Date => (a > b ? a : b);

function gcmOf(version: KeyVersion, uses: VersionUses | undefined) {
  if (findSuiteByNumber(version.suite).kind !== 'aead') return null;
  return { used: uses?.reserved ?? 0, rotatesAt: GCM_ROTATION, refusedAt: GCM_LIMIT };
}

function usesResource({ key }: KeyView, version: KeyVersion, uses: KeyUses) {
  const found = uses.versions.find((each) => each.version === version.version);
  return {
    version: version.version,
    suite: findSuiteByNumber(version.suite).id,
    state: version.state,
    primary: version.version === key.primary,
    ...counted(version, uses),
    gcm: gcmOf(version, found),
  };
}

const userResource = ({ usage, principal, uses, firstAt, lastAt }: VersionUser) => ({
  usage,
  principal,
  uses,
  firstAt,
  lastAt,
});

/** The member `uses` of a dry run's answer (`changeUses` of the contract), for the key as it was before. */
export function changeUsesResource(
  { versions }: KeyView,
  { version, uses, users, from }: UsesAbout,
) {
  const chosen = versions.filter((each) => version === null || each.version === version);
  return {
    versions: chosen.map((each) => ({ version: each.version, ...counted(each, uses) })),
    users: users.map(userResource),
    ...(from === undefined ? {} : { from: { key: from.key, users: from.users.map(userResource) } }),
  };
}

/** Position of a page of users: `<last use in ms>/<number of the row>`. */
const positionOf = (next: AfterUser | null): string | null =>
  next === null ? null : `${next.lastAt.getTime()}/${next.id}`;

function afterPosition(position: string | null): AfterUser | null {
  if (position === null) return null;
  const [, at, id] = /^([0-9]{1,15})\/([0-9]{1,19})$/.exec(position) ?? [];
  if (at === undefined || id === undefined) throw new TwofoldError('internal');
  return { lastAt: new Date(Number(at)), id };
}

export function versionUseRoutes({ read, pageTokenKey }: Dependencies): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listVersionUses, {
      handle: async ({ grant, notes, params, query }) => {
        const scope = pageScope(`${contract.listVersionUses.id}/${params.key}`, grant, query);
        const { view, versions, uses, nextVersion } = await read.uses(grant, {
          pageSize: query.pageSize ?? DEFAULT_PAGE_SIZE,
          afterVersion: Number(tokens.open(scope, query.pageToken) ?? 0),
        });
        notes.keyId(view.key.id);
        const nextPageToken = tokens.seal(scope, nextVersion === null ? null : String(nextVersion));
        const items = versions.map((version) => usesResource(view, version, uses));
        return { body: { items, nextPageToken } };
      },
    }),
    route(contract.listVersionUsers, {
      handle: async ({ grant, notes, params, query }) => {
        const { key, version } = params;
        const list = `${contract.listVersionUsers.id}/${key}/${version}`;
        const scope = pageScope(list, grant, query);
        const { view, items, next } = await read.users(grant, {
          version,
          pageSize: query.pageSize ?? DEFAULT_PAGE_SIZE,
          after: afterPosition(tokens.open(scope, query.pageToken)),
        });
        notes.keyId(view.key.id);
        const nextPageToken = tokens.seal(scope, positionOf(next));
        return { body: { items: items.map(userResource), nextPageToken } };
      },
    }),
  ];
}
