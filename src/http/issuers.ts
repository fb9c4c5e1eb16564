/** Routes of stored issuers. */
import {
  checkAuthorities,
  checkCertificateSettings,
  checkIssuer,
  checkSettings,
  describeSource,
} from '../access/issuer-check.ts';
import * as contract from '../contract/issuers.ts';
import { TwofoldError } from '../errors.ts';
import { certificateSettingsOf } from '../governance/certificate-issuers.ts';
import { settingsOf, taken } from '../governance/issuers.ts';
import { answerSet, memberTag, pageOfMembers } from './governed.ts';
import { issuerValueOf } from './issuer-value.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { CertificateIssuerSettings } from '../access/certificate-issuer.ts';
import type { IssuerSettings } from '../access/issuers.ts';
import type { RoleMapping } from '../access/role-mapping.ts';
import type { StoredIssuer } from '../governance/issuers.ts';
import type { Member, PreparedSetChange } from '../governance/sealed-set.ts';
import type { HttpDependencies, IssuerFacts } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

const shownRoles = (mappings: readonly RoleMapping[]) =>
  mappings.map(({ subject, roles }) => ({ subject, roles: [...roles] }));

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
  authorities: null,
  subject: null,
  trustDomain: null,
  roles: shownRoles(settings.roleMappings ?? []),
});

type Vouching = Pick<
  CertificateIssuerSettings,
  'issuer' | 'subject' | 'trustDomain' | 'roleMappings'
>;

/** As an issuer of tokens is shown, with nothing in what it has none of. */
const vouchingResource = (settings: Vouching, authorities: string | null) => ({
  kind: 'mtls' as const,
  issuer: settings.issuer,
  audience: null,
  algorithms: [],
  rolesClaim: null,
  keys: 'authorities' as const,
  jwksUrl: null,
  ca: null,
  pinned: [],
  maxLifetime: null,
  clockTolerance: null,
  authorities,
  subject: settings.subject,
  trustDomain: settings.trustDomain ?? null,
  roles: shownRoles(settings.roleMappings),
});

const OF_CONFIGURATION = {
  name: null,
  source: 'configuration',
  jwks: null,
  updatedAt: null,
  updatedBy: null,
  revision: 0,
} as const;

/** Those that are let in where it is asked. */
const configuredIn = (namespace: string, { configured, certificates }: IssuerFacts) => [
  ...configured.map((settings) => ({
    ...OF_CONFIGURATION,
    ...settingsResource(settings),
    shared: true,
  })),
  ...certificates
    .filter((each) => each.namespace === undefined || each.namespace === namespace)
    .map((settings) => ({
      ...OF_CONFIGURATION,
      ...vouchingResource(settings, null),
      shared: settings.namespace === undefined,
    })),
];

type KeysOfSet = Readonly<Record<string, unknown>>[];

function valueResource(value: StoredIssuer) {
  if (value.kind === 'mtls') {
    const trustDomain = value.trustDomain ?? undefined;
    return { ...vouchingResource({ ...value, trustDomain }, value.authorities), jwks: null };
  }
  const jwks = value.jwks === null ? null : (JSON.parse(value.jwks) as { keys: KeysOfSet });
  return { ...settingsResource(settingsOf(value, [])), jwks };
}

function resource({ name, revision, at, by, value }: Member<StoredIssuer>) {
  return {
    name,
    source: 'stored' as const,
    ...valueResource(value),
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
        const first = call.query.pageToken === undefined;
        const configured = first ? configuredIn(call.grant.namespace, issuers) : [];
        return { body: { ...page, items: [...configured, ...page.items] } };
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

/**
 * Checks what is to be stored, and gives what a dry run says of it.
 * @throws TwofoldError already_exists, invalid_value
 */
async function checkedValue(value: StoredIssuer, namespace: string, facts: IssuerFacts) {
  if (facts.names.includes(value.issuer)) throw taken();
  if (value.kind === 'mtls') {
    const settings = certificateSettingsOf(value, namespace);
    checkCertificateSettings(settings, facts.certificates, new Date());
    return () => Promise.resolve(checkAuthorities(settings, facts.asksForCertificates));
  }
  const settings = settingsOf(value, facts.internal);
  await checkSettings(settings, facts.plainHttp);
  return () => checkIssuer(settings, facts.plainHttp);
}

function changingRoutes({ governance, issuers }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.putIssuer, {
      handle: async (call) => {
        const { name } = call.params;
        const value = issuerValueOf(call.body);
        const check = await checkedValue(value, call.grant.namespace, issuers);
        const more = call.query.dryRun === true ? { check: await check() } : {};
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
