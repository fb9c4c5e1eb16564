/** Routes of the rotation policies of a namespace. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/rotation.ts';
import { TwofoldError } from '../errors.ts';
import { answerPrepared } from './admin-keys.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { effectsMember } from './policy-effects.ts';
import { policyResource } from './policy-resource.ts';
import { pauseAsRead, termFacts, termsOf } from './rotation.ts';
import { route } from './route.ts';
import type { PolicyDone, PolicyRun, PreparedPolicyChange } from '../keyring/namespace-policies.ts';
import type { NamespacePolicy } from '../keyring/ports.ts';
import type { ChangeCall } from './admin-keys.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

const resource = ({ namespace, name, selector, priority, policy }: NamespacePolicy) => ({
  namespace,
  name,
  selector,
  priority,
  policy: policyResource(policy),
});

const tagOf = ({ policy }: NamespacePolicy) => ({ ETag: `"${String(policy.revision)}"` });

/** A policy as it will be, or as it was where it is dropped. */
function shown({ before, after, effects }: PreparedPolicyChange): object {
  const policy = after ?? before;
  if (policy === null) return {};
  const deleted = after === null ? { deleted: true } : {};
  return { ...resource(policy), ...deleted, ...effectsMember(effects) };
}

async function answer(call: ChangeCall, change: (run: PolicyRun) => Promise<PolicyDone>) {
  const preview = call.query.dryRun === true ? { dryRun: true } : {};
  const show = (prepared: PreparedPolicyChange) => ({ ...shown(prepared), ...preview });
  const { reply, done } = await answerPrepared(call, show, change);
  const after = done.change?.after ?? null;
  if (done.change !== null) call.notes.detail(done.change.detail);
  return { ...reply, headers: after === null ? {} : tagOf(after) };
}

/** What is given back as it was read says of itself what the request says. @throws TwofoldError invalid_value */
function requireSame(member: 'name' | 'namespace', asked: string, read: string | undefined): void {
  if (read === undefined || read === asked) return;
  throw new TwofoldError('invalid_value', `${member} is not that of the request.`);
}

type Dependencies = Pick<HttpDependencies, 'policies' | 'pageTokenKey'>;

function readingRoutes({ policies, pageTokenKey }: Dependencies): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listRotationPolicies, {
      handle: async ({ grant, query }) => {
        const scope = pageScope(contract.listRotationPolicies.id, grant, query);
        const after = tokens.open(scope, query.pageToken) ?? '';
        const set = await policies.list(grant);
        const rest = set.policies.filter(({ name }) => name > after);
        const items = rest.slice(0, query.pageSize ?? DEFAULT_PAGE_SIZE);
        const last = items.length < rest.length ? (items.at(-1)?.name ?? null) : null;
        return {
          body: { items: items.map(resource), nextPageToken: tokens.seal(scope, last) },
        };
      },
    }),
    route(contract.getNamespacePolicy, {
      handle: async ({ grant, params }) => {
        const policy = await policies.get(grant, params.name);
        return { body: resource(policy), headers: tagOf(policy) };
      },
    }),
  ];
}

function changingRoutes({ policies }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.putNamespacePolicy, {
      facts: ({ policy, ...beside }) => termFacts(policy ?? beside),
      handle: (call) => {
        const { selector, priority = 0, policy, ...beside } = call.body;
        requireSame('name', call.params.name, beside.name);
        requireSame('namespace', call.grant.namespace, beside.namespace);
        const given = policy ?? beside;
        const asked = { terms: termsOf(given), ...pauseAsRead(given) };
        const input = { name: call.params.name, selector, priority, ...asked };
        return answer(call, (run) => policies.put(call.grant, input, run));
      },
    }),
    route(contract.deleteNamespacePolicy, {
      handle: (call) => answer(call, (run) => policies.delete(call.grant, call.params.name, run)),
    }),
    route(contract.pauseNamespacePolicy, {
      handle: (call) => {
        const input = { name: call.params.name, reason: call.body.reason };
        return answer(call, (run) => policies.pause(call.grant, input, run));
      },
    }),
    route(contract.resumeNamespacePolicy, {
      handle: (call) => {
        const input = { name: call.params.name, reason: call.body.reason };
        return answer(call, (run) => policies.resume(call.grant, input, run));
      },
    }),
  ];
}

export function namespacePolicyRoutes(deps: Dependencies): readonly GuardedRoute[] {
  return [...readingRoutes(deps), ...changingRoutes(deps)];
}
