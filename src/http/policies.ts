/** Routes of policies, and of the question what they permit. */
import { OPERATIONS } from '../access/grant.ts';
import type { Operation, Principal } from '../access/grant.ts';
import { PolicyInvalid } from '../access/policy-error.ts';
import { SCHEMA, TEMPLATES, TEMPLATE_NAMES } from '../access/policies.ts';
import type { Resource } from '../access/ports.ts';
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/policies.ts';
import { canonicalReference } from '../contract/scalars.ts';
import { TwofoldError } from '../errors.ts';
import { cedarText } from '../governance/stored-policy.ts';
import type { PolicySource, StoredPolicy } from '../governance/stored-policy.ts';
import { answerSet, memberTag, pageOfMembers } from './governed.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { RefusedInput } from './problem.ts';
import { route } from './route.ts';
import type { Member, PastMember, PreparedSetChange, SetView } from '../governance/sealed-set.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

type Dependencies = Pick<HttpDependencies, 'governance' | 'pageTokenKey' | 'access' | 'keys'>;

const templateOf = (source: PolicySource) =>
  source.kind === 'cedar'
    ? null
    : {
        name: source.template,
        principal: source.principal,
        key: source.key,
        limit: source.limit,
      };

const resource = (namespace: string) => (member: Member<StoredPolicy>) => ({
  ...pastResource(namespace)(member),
  description: member.value.description,
  cedar: cedarText(namespace, member.value.source),
});

const pastResource =
  (namespace: string) =>
  ({ name, revision, at, by, value }: PastMember<StoredPolicy>) => ({
    name,
    description: value?.description ?? null,
    cedar: value && cedarText(namespace, value.source),
    template: value && templateOf(value.source),
    updatedAt: at.toISOString(),
    updatedBy: by,
    revision,
  });

type Side = { readonly value: StoredPolicy } | null | undefined;

const difference = (namespace: string, name: string, before: Side, after: Side) => ({
  name,
  before: before ? cedarText(namespace, before.value.source) : null,
  after: after ? cedarText(namespace, after.value.source) : null,
});

const shown =
  (namespace: string) =>
  ({ revision, changes, detail }: PreparedSetChange<StoredPolicy>) => ({
    setRevision: revision,
    ...(detail['locksOut'] === true ? { locksOut: true } : {}),
    changes: changes.map(({ name, before, after }) => difference(namespace, name, before, after)),
  });

function differences(namespace: string, from: SetView<StoredPolicy>, to: SetView<StoredPolicy>) {
  const names = [...new Set([...from.members.keys(), ...to.members.keys()])].sort();
  return names
    .map((name) => difference(namespace, name, from.members.get(name), to.members.get(name)))
    .filter(({ before, after }) => before !== after);
}

/** Complaints about the text stand with its place in it. */
export async function placed<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof PolicyInvalid)) throw error;
    const [first, ...rest] = error.complaints.map(({ line, column, message }) => ({
      path: '/cedar',
      code: 'policy_invalid' as const,
      message:
        line === null ? message : `line ${String(line)}, column ${String(column)}: ${message}`,
    }));
    throw first === undefined ? error : new RefusedInput([first, ...rest]);
  }
}

/** Where a page of the history goes on. */
function placeOf(token: string | null) {
  if (token === null) return null;
  const [revision = '', name = ''] = token.split(' ');
  return { revision: Number(revision), name };
}

function readingRoutes({ governance, pageTokenKey }: Dependencies): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listPolicies, {
      handle: async (call) => {
        const view = await governance.policies.list(call.grant);
        const show = resource(call.grant.namespace);
        const body = pageOfMembers(tokens, contract.listPolicies.id, call, view, show);
        return { body, headers: memberTag(view) };
      },
    }),
    route(contract.listPolicyRevisions, {
      handle: async ({ grant, query }) => {
        const scope = pageScope(contract.listPolicyRevisions.id, grant, query);
        const pageSize = query.pageSize ?? DEFAULT_PAGE_SIZE;
        const items = await governance.policies.history(grant, {
          name: query.name ?? null,
          before: placeOf(tokens.open(scope, query.pageToken)),
          pageSize,
        });
        const last = items.length < pageSize ? undefined : items.at(-1);
        const next = last === undefined ? null : `${String(last.revision)} ${last.name}`;
        const nextPageToken = tokens.seal(scope, next);
        return { body: { items: items.map(pastResource(grant.namespace)), nextPageToken } };
      },
    }),
    route(contract.diffPolicies, {
      handle: async ({ grant, params }) => {
        const from = await governance.policies.at(grant, params.from);
        const to = await governance.policies.at(grant, params.to);
        return { body: { changes: differences(grant.namespace, from, to) } };
      },
    }),
    route(contract.getPolicy, {
      handle: async ({ grant, params }) => {
        const { members } = await governance.policies.list(grant);
        const member = members.get(params.name);
        if (member === undefined) throw new TwofoldError('not_found');
        return { body: resource(grant.namespace)(member), headers: memberTag(member) };
      },
    }),
  ];
}

type Terms = NonNullable<(typeof contract.putPolicy)['body']['_zod']['output']>;

export function policyOf({ description = '', cedar, template }: Terms): StoredPolicy {
  if (template === undefined) return { description, source: { kind: 'cedar', text: cedar ?? '' } };
  const { name, principal, key = null, limit = null } = template;
  return { description, source: { kind: 'template', template: name, principal, key, limit } };
}

function changingRoutes({ governance }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.putPolicy, {
      handle: (call) => {
        const input = { name: call.params.name, policy: policyOf(call.body) };
        return placed(() =>
          answerSet(call, shown(call.grant.namespace), (run) =>
            governance.policies.put(call.grant, input, run, call),
          ),
        );
      },
    }),
    route(contract.deletePolicy, {
      handle: (call) =>
        answerSet(call, shown(call.grant.namespace), (run) =>
          governance.policies.delete(call.grant, call.params.name, run, call),
        ),
    }),
    route(contract.rollBackPolicies, {
      handle: (call) =>
        placed(() =>
          answerSet(call, shown(call.grant.namespace), (run) =>
            governance.policies.rollBack(call.grant, call.params.revision, run, call),
          ),
        ),
    }),
  ];
}

type Question = NonNullable<(typeof contract.askAccess)['body']['_zod']['output']>;

function operationOf({ operation }: Question): Operation {
  const known = OPERATIONS.find((name) => name === operation);
  if (known !== undefined) return known;
  throw new TwofoldError('invalid_value', '/operation is no operation.');
}

/** Of somebody else, what the question says of their token. */
function principalOf(self: Principal, { principal }: Question): Principal {
  if (principal === undefined) return self;
  const { issuer, subject, roles = [], acr = null, amr = [] } = principal;
  const names = (given: readonly string[]) => [...new Set(given)].sort();
  return { ...self, issuer, subject, method: 'jwt', roles: names(roles), acr, amr: names(amr) };
}

function askingRoutes({ access, keys, governance }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.getPolicySchema, {
      handle: () => {
        const templates = TEMPLATE_NAMES.map((name) => ({ name, cedar: TEMPLATES[name] }));
        return Promise.resolve({ body: { schema: SCHEMA, templates } });
      },
    }),
    route(contract.askAccess, {
      handle: async ({ grant, principal, body, grantIf }) => {
        if (body.principal !== undefined && grantIf('policies.read') === null) {
          throw new TwofoldError('forbidden', 'Only who reads policies may ask about others.');
        }
        const operation = operationOf(body);
        const { namespace } = grant;
        const authorizer = await access.in(namespace);
        const asker = principalOf(principal, body);
        const key = body.key === undefined ? null : canonicalReference(body.key);
        const about: Resource = { namespace, key };
        const meant = key === null ? null : await keys.resolve(namespace, key);
        // What it is explains the decision to those alone who may read that very key.
        const mayRead = authorizer.may(principal, 'keys.read', { ...about, resolved: meant });
        const resolved = mayRead ? meant : null;
        const context = body.context === undefined ? [] : [facts(body.context)];
        const told = authorizer.explain(asker, operation, { ...about, resolved }, ...context);
        const { revision, forbids, errors } = told;
        // As of the request itself, whose body names no context where the question names none.
        const asked = { principal: asker, operation, resource: about, denial: told };
        const lent = await governance.delegation.permit(asked, context[0] ?? {});
        const { allowed, policies } = lent?.decision ?? told;
        const permits = lent === null ? told.permits : policies;
        return { body: { allowed, revision, policies, permits, forbids, errors } };
      },
    }),
  ];
}

const facts = (context: NonNullable<Question['context']>) =>
  Object.fromEntries(Object.entries(context).filter(([, value]) => value !== undefined));

export function policyRoutes(deps: Dependencies): readonly GuardedRoute[] {
  return [...readingRoutes(deps), ...changingRoutes(deps), ...askingRoutes(deps)];
}
