/** Routes of stored issuers. */
import { checkIssuer, checkSettings, describeSource } from '../access/issuer-check.ts';
import * as contract from '../contract/issuers.ts';
import { TwofoldError } from '../errors.ts';
import { settingsOf, taken } from '../governance/issuers.ts';
import { answerSet, memberTag, pageOfMembers } from './governed.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { IssuerSettings } from '../access/issuers.ts';
import type { TokenAlgorithm } from '../access/jwk-set.ts';
import type { StoredIssuer } from '../governance/issuers.ts';
import type { Member, PreparedSetChange } from '../governance/sealed-set.ts';
import type { HttpDependencies, IssuerFacts } from './dependencies.ts';
import type { Call, GuardedRoute } from './route.ts';

type Body = Call<typeof contract.putIssuer>['body'];

function valueOf(body: Body): StoredIssuer {
  const { jwks, jwksUrl, roles = [] } = body;
  if (jwks !== undefined && jwksUrl !== undefined) {
    throw new TwofoldError('invalid_value', 'At most one of jwks and jwksUrl is given.');
  }
  return {
    kind: body.kind ?? 'oidc',
    issuer: body.issuer,
    audience: body.audience,
    // What is no algorithm is refused with the other settings.
    algorithms: body.algorithms as readonly TokenAlgorithm[],
    rolesClaim: body.rolesClaim ?? 'roles',
    jwksUrl: jwksUrl ?? null,
    jwks: jwks === undefined ? null : JSON.stringify(jwks),
    ca: body.ca ?? null,
    pinned: body.pinned ?? [],
    maxLifetime: body.maxLifetime ?? null,
    clockTolerance: body.clockTolerance ?? null,
    roleMappings: roles,
    shared: body.shared ?? false,
  };
}

const settingsResource = (settings: IssuerSettings) => ({
  kind: settings.kind ?? 'oidc',
  issuer: settings.issuer,
  audience: settings.audience,
  algorithms: [...settings.algorithms],
  rolesClaim: settings.rolesClaim,
  keys: describeSource(settings),
  jwksUrl: settings.jwksUrl ?? null,
  ca: settings.ca ?? null,
  pinned: [...(settings.pinned ?? [])],
  maxLifetime: settings.maxLifetime ?? null,
  clockTolerance: settings.clockTolerance ?? null,
  roles: (settings.roleMappings ?? []).map(({ subject, roles }) => ({
    subject,
    roles: [...roles],
  })),
});

const configuredResource = (settings: IssuerSettings) => ({
  name: null,
  source: 'configuration' as const,
  ...settingsResource(settings),
  jwks: null,
  shared: true,
  updatedAt: null,
  updatedBy: null,
  revision: 0,
});

type KeysOfSet = Readonly<Record<string, unknown>>[];

function resource({ name, revision, at, by, value }: Member<StoredIssuer>) {
  return {
    name,
    source: 'stored' as const,
    ...settingsResource(settingsOf(value, [])),
    jwks: value.jwks === null ? null : (JSON.parse(value.jwks) as { keys: KeysOfSet }),
    shared: value.shared,
    updatedAt: at.toISOString(),
    updatedBy: by,
    revision,
  };
}

/** The issuer as it is after the change, or as it was where it is taken away or stays. */
const shownOf =
  (unchanged: Member<StoredIssuer> | undefined, more: object = {}) =>
  ({ changes: [change] }: PreparedSetChange<StoredIssuer>): object => {
    const member = change?.after ?? change?.before ?? unchanged;
    if (member === undefined) throw new TwofoldError('not_found');
    return { ...resource(member), ...(change?.after === null ? { deleted: true } : {}), ...more };
  };

type Dependencies = Pick<HttpDependencies, 'governance' | 'issuers' | 'pageTokenKey'>;

function readingRoutes(deps: Dependencies): readonly GuardedRoute[] {
  const { governance, pageTokenKey, issuers } = deps;
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listIssuers, {
      handle: async (call) => {
        const view = await governance.issuers.list(call.grant);
        const page = pageOfMembers(tokens, contract.listIssuers.id, call, view, resource);
        const first = call.query.pageToken === undefined ? issuers.configured : [];
        return { body: { ...page, items: [...first.map(configuredResource), ...page.items] } };
      },
    }),
    route(contract.getIssuer, {
      handle: async ({ grant, params }) => {
        const member = (await governance.issuers.list(grant)).members.get(params.name);
        if (member === undefined) throw new TwofoldError('not_found');
        return { body: resource(member), headers: memberTag(member) };
      },
    }),
  ];
}

/** @throws TwofoldError already_exists, invalid_value */
async function checkValue(value: StoredIssuer, facts: IssuerFacts): Promise<IssuerSettings> {
  if (facts.names.includes(value.issuer)) throw taken();
  const settings = settingsOf(value, facts.internal);
  await checkSettings(settings, facts.plainHttp);
  return settings;
}

function changingRoutes({ governance, issuers }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.putIssuer, {
      handle: async (call) => {
        const { name } = call.params;
        const value = valueOf(call.body);
        const settings = await checkValue(value, issuers);
        const dry = call.query.dryRun === true;
        const more = dry ? { check: await checkIssuer(settings, issuers.plainHttp) } : {};
        const before = (await governance.issuers.list(call.grant)).members.get(name);
        return answerSet(call, shownOf(before, more), (run) =>
          governance.issuers.put(call.grant, { name, value }, run),
        );
      },
    }),
    route(contract.deleteIssuer, {
      handle: (call) =>
        answerSet(call, shownOf(undefined), (run) =>
          governance.issuers.remove(call.grant, call.params.name, run),
        ),
    }),
  ];
}

export function issuerRoutes(deps: Dependencies): readonly GuardedRoute[] {
  return [...readingRoutes(deps), ...changingRoutes(deps)];
}
