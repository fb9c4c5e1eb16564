/**
 * Whether a change of policies would leave nobody who could change them again, or not its author. Of the
 * author it is decided as the next change would be: by all that conditions and forbids come to, for the
 * very request that makes this one. Of others, whose requests nobody knows, scopes alone are looked at.
 */
import { PolicyAuthorizer } from '../access/authorize.ts';
import { BoundedCache } from '../access/bounded-cache.ts';
import { readSchema } from '../access/cedar-schema.ts';
import { covers, coversAction } from '../access/compiled-policy.ts';
import type { CompiledPolicy } from '../access/compiled-policy.ts';
import type { Grant, Operation } from '../access/grant.ts';
import { asksNobody } from '../access/local-access.ts';
import { SCHEMA } from '../access/policies.ts';
import { policySetOf } from './policy-sets.ts';
import { compileStored } from './stored-policy.ts';
import type { StoredPolicy } from './stored-policy.ts';

type Policies = ReadonlyMap<string, StoredPolicy>;

/** In words; null where it locks out neither. */
export function lockedOut(
  grant: Grant<'policies.change'>,
  after: Policies,
  now: Date,
): string | null {
  const { namespace, principal } = grant;
  // Whoever holds a token of the machine changes policies by it, whatever they say.
  const decided = asksNobody(principal) ? null : authorMay(grant, after, now);
  if (decided === true) return null;
  const compiled = [...after.values()].map((policy) => compileStored(namespace, policy));
  if (!mayBeDone('policies.change', namespace, compiled))
    return 'Nobody could change policies any more.';
  return decided === null ? null : 'Who asks for it could not change policies any more.';
}

function authorMay(
  { namespace, principal, circumstances }: Grant<'policies.change'>,
  after: Policies,
  now: Date,
): boolean {
  const members = new Map([...after].map(([name, value]) => [name, { value }]));
  const authorizer = new PolicyAuthorizer({
    policies: policySetOf(namespace, { revision: 0, members }),
    epoch: () => 0,
    decisions: new BoundedCache(1),
    clock: () => now,
  });
  const about = { ...circumstances, namespace, key: null };
  return authorizer.may(principal, 'policies.change', about);
}

/**
 * Whether anybody could do it: a permit whose scope covers that, and no forbid of everybody without any
 * condition. What conditions come to is not foreseen.
 */
export function mayBeDone(
  operation: Operation,
  namespace: string,
  policies: readonly CompiledPolicy[],
): boolean {
  const { names = new Set<string>() } = readSchema(SCHEMA).actions.get(operation) ?? {};
  const home = { type: 'Namespace', id: namespace, parents: [] };
  const about = policies.filter(
    (policy) => coversAction(policy, names) && covers(policy.resource, home),
  );
  const all = (policy: CompiledPolicy) =>
    !policy.conditional &&
    (policy.principal.op === 'All' ||
      (policy.principal.op === 'is' && policy.principal.in === null));
  if (about.some((policy) => policy.effect === 'forbid' && all(policy))) return false;
  return about.some(({ effect }) => effect === 'permit');
}
