/**
 * Whether a change of policies would leave nobody who could change them again, or not its author. Of the
 * author it is decided as the next change would be: by all that conditions and forbids come to, for the
 * very request that makes this one, now and, where policies name dates, a month after each of them: what ends
 * the right for longer than that locks out, and what pauses it for less does not. Of others, whose requests
 * nobody knows, scopes alone are looked at.
 */
import { PolicyAuthorizer } from '../access/authorize.ts';
import { BoundedCache } from '../access/bounded-cache.ts';
import { readSchema } from '../access/cedar-schema.ts';
import { covers, coversAction } from '../access/compiled-policy.ts';
import type { CompiledPolicy } from '../access/compiled-policy.ts';
import type { Decision, Grant, Operation } from '../access/grant.ts';
import { asksNobody } from '../access/local-access.ts';
import { SCHEMA } from '../access/policies.ts';
import { policySetOf } from './policy-sets.ts';
import { cedarText, compileStored } from './stored-policy.ts';
import type { StoredPolicy } from './stored-policy.ts';

type Policies = ReadonlyMap<string, StoredPolicy>;

/** A pause of changes, over the year's end say, may be as long. */
const PAUSE_MS = 31 * 86_400_000;
/** Whatever a policy reckons from a date has come by then. */
const FAR_MS = 100 * 366 * 86_400_000;
/** Cedar's year has four digits in a text. */
const LATEST_MS = Date.parse('9999-12-31T00:00:00Z');
/** Dates that are looked at, of more the nearest and the last. */
const MOST_DATES = 16;
const DATE = /\bdatetime\s*\(\s*"([^"]*)"/gu;

/** In words; null where it locks out neither. */
export function lockedOut(
  grant: Grant<'policies.change'>,
  { before, after }: { readonly before: Policies; readonly after: Policies },
  now: Date,
): string | null {
  const { namespace, principal } = grant;
  // Whoever holds a token of the machine changes policies by it, whatever they say.
  const decided = asksNobody(principal) ? null : rightOf(grant, after)(now);
  if (decided === true) return laterLockedOut(grant, { before, after }, now);
  const compiled = [...after.values()].map((policy) => compileStored(namespace, policy));
  if (!mayBeDone('policies.change', namespace, compiled))
    return 'Nobody could change policies any more.';
  return decided === null ? null : 'Who asks for it could not change policies any more.';
}

/** Of a right that the author has for good as things stand, what takes it at a date. */
function laterLockedOut(
  grant: Grant<'policies.change'>,
  { before, after }: { readonly before: Policies; readonly after: Policies },
  now: Date,
): string | null {
  const dates = datesIn(grant.namespace, after, now);
  if (dates.length === 0) return null;
  const [will, would] = [rightOf(grant, after), rightOf(grant, before)];
  const lost = dates.find((at) => !will(at) && would(at));
  if (lost === undefined) return null;
  return `Who asks for it could not change policies any more at ${lost.toISOString()}.`;
}

/** Moments that decide for good: a month after each date that policies name, and one that is far. */
function datesIn(namespace: string, policies: Policies, now: Date): readonly Date[] {
  const names = namesOf('policies.change');
  const timed = [...policies.values()].filter((policy) => {
    const compiled = compileStored(namespace, policy);
    const { reads } = compiled;
    return coversAction(compiled, names) && (reads.has('time') || reads.has('*'));
  });
  if (timed.length === 0) return [];
  const named = timed
    .flatMap(({ source }) => [...cedarText(namespace, source).matchAll(DATE)])
    .map(([, text = '']) => Date.parse(text) + PAUSE_MS)
    .filter((at) => at > now.getTime() && at < LATEST_MS);
  const dates = [...new Set([...named, now.getTime() + FAR_MS])].toSorted((a, b) => a - b);
  const half = MOST_DATES / 2;
  const some = dates.length > MOST_DATES ? [...dates.slice(0, half), ...dates.slice(-half)] : dates;
  return some.map((at) => new Date(at));
}

/** Of an operation, its own and those of its groups. */
const namesOf = (operation: Operation): ReadonlySet<string> =>
  readSchema(SCHEMA).actions.get(operation)?.names ?? new Set();

/** Whether the author may change policies at a moment, by these. */
function rightOf(
  { namespace, principal, circumstances }: Grant<'policies.change'>,
  policies: Policies,
): (at: Date) => boolean {
  const members = new Map([...policies].map(([name, value]) => [name, { value }]));
  const set = policySetOf(namespace, { revision: 0, members });
  const about = { ...circumstances, namespace, key: null };
  return (at) => {
    const decisions = new BoundedCache<string, Decision>(1);
    const deciding = { policies: set, epoch: () => 0, decisions, clock: () => at };
    return new PolicyAuthorizer(deciding).may(principal, 'policies.change', about);
  };
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
  const names = namesOf(operation);
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
