/**
 * Authorization: the one place where grants are made (promise P4).
 *
 * Permission comes before existence: a refusal names the operation and is the same whether or not
 * the key exists.
 */
import type { Context, EntityJson, TypeAndId } from '@cedar-policy/cedar-wasm/nodejs';
import type { SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { BoundedCache } from './bounded-cache.ts';
import { mintGrant } from './grant.ts';
import type { Decision, Grant, Operation, Principal } from './grant.ts';
import { BUILT_IN_POLICIES, SCHEMA } from './policies.ts';
import { PolicySet } from './policy-set.ts';
import type { Authorizer, BodyFacts, Resource } from './ports.ts';

export interface AuthorizationOptions {
  readonly epoch: SecurityEpoch;
  /** Decisions remembered. */
  readonly capacity?: number | undefined;
  /** Another set than the built-in one; for tests, and for stored policies to come. */
  readonly policies?: PolicySet | undefined;
}

const DEFAULT_CAPACITY = 20_000;
/** Characters of a remembered question. */
const LONGEST_REMEMBERED = 1_024;

/** The built-in set; throws `policy_invalid` if this build's policies do not fit its schema. */
export const builtInPolicies = (): PolicySet => PolicySet.load(SCHEMA, BUILT_IN_POLICIES);

export class PolicyAuthorizer implements Authorizer {
  readonly #policies: PolicySet;
  readonly #epoch: SecurityEpoch;
  readonly #decisions: BoundedCache<string, Decision>;
  readonly #names = new WeakMap<Principal, string>();

  constructor(options: AuthorizationOptions) {
    this.#policies = options.policies ?? builtInPolicies();
    this.#epoch = options.epoch;
    this.#decisions = new BoundedCache(options.capacity ?? DEFAULT_CAPACITY);
    options.epoch.onChange(({ scope }) => {
      if (scope === 'access') this.#decisions.clear();
    });
  }

  /** Decisions remembered at the moment. */
  get cached(): number {
    return this.#decisions.size;
  }

  /** The policy set in force. */
  get revision(): string {
    return this.#policies.revision;
  }

  authorize<O extends Operation>(principal: Principal, operation: O, resource: Resource): Grant<O> {
    return this.#grant(principal, operation, resource, undefined);
  }

  refine<O extends Operation>(grant: Grant<O>, body: BodyFacts): Grant<O> {
    const { principal, operation, namespace, key } = grant;
    return this.#grant(principal, operation, { namespace, key }, body);
  }

  may(principal: Principal, operation: Operation, resource: Resource): boolean {
    return this.decide(principal, operation, resource).allowed;
  }

  decide(
    principal: Principal,
    operation: Operation,
    resource: Resource,
    body?: BodyFacts,
  ): Decision {
    const facts = this.#policies.readsContext ? body : undefined;
    const { namespace, key } = resource;
    const tail = JSON.stringify([operation, namespace, key, facts && canonicalFacts(facts)]);
    const id = `${this.#nameOf(principal)}${tail}`;
    const known = this.#decisions.get(id);
    if (known !== undefined) return known;
    const decision = this.#policies.decide(question(principal, operation, resource, facts));
    // Long ones come of paths that name nothing; they are not worth their memory.
    if (id.length <= LONGEST_REMEMBERED) this.#decisions.set(id, decision);
    return decision;
  }

  #grant<O extends Operation>(
    principal: Principal,
    operation: O,
    resource: Resource,
    body: BodyFacts | undefined,
  ): Grant<O> {
    // Read before deciding: a change in between makes the grant old, never the decision new.
    const epoch = this.#epoch.current;
    const decision = this.decide(principal, operation, resource, body);
    if (!decision.allowed) {
      throw new TwofoldError('forbidden', `This principal may not do ${operation} here.`);
    }
    const { namespace, key } = resource;
    return mintGrant({ operation, namespace, key, principal, decision, epoch });
  }

  #nameOf(principal: Principal): string {
    const known = this.#names.get(principal);
    if (known !== undefined) return known;
    const { issuer, subject, method, roles } = principal;
    const name = JSON.stringify([issuer, subject, method, roles]);
    this.#names.set(principal, name);
    return name;
  }
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/iu;

function question(
  principal: Principal,
  operation: Operation,
  resource: Resource,
  facts: BodyFacts | undefined,
) {
  const { issuer, subject, method, roles } = principal;
  const user = { type: 'User', id: JSON.stringify([issuer, subject]) };
  const parents = roles.map((id) => ({ type: 'Role', id }));
  const target = resourceEntity(resource);
  const { context, pairs } = contextOf(facts);
  return {
    principal: user,
    action: operation,
    resource: target.uid,
    context,
    entities: [{ uid: user, attrs: { issuer, subject, method }, parents }, target, ...pairs],
  };
}

type Entity = EntityJson & { uid: TypeAndId };

function resourceEntity({ namespace, key }: Resource): Entity {
  const home = { type: 'Namespace', id: namespace };
  if (key === null) return { uid: home, attrs: {}, parents: [] };
  const attrs = UUID.test(key) ? { id: key.toLowerCase() } : { name: key };
  return { uid: { type: 'Key', id: JSON.stringify([namespace, key]) }, attrs, parents: [home] };
}

function contextOf(facts: BodyFacts | undefined): { context: Context; pairs: EntityJson[] } {
  const context: Context = {};
  const pairs: EntityJson[] = [];
  const add = (name: string, tags: Readonly<Record<string, string>>) => {
    const uid = { type: 'Pairs', id: name };
    pairs.push({ uid, attrs: {}, parents: [], tags: { ...tags } });
    context[name] = { __entity: uid };
  };
  if (facts?.suite !== undefined) context['suite'] = facts.suite;
  if (facts?.labels !== undefined) add('labels', facts.labels);
  if (facts?.encryptionContext !== undefined) {
    add('encryptionContext', facts.encryptionContext);
    context['encryptionContextNames'] = Object.keys(facts.encryptionContext);
  }
  return { context, pairs };
}

/** Equal for equal facts, whatever the order of their members. */
function canonicalFacts({ suite, labels, encryptionContext }: BodyFacts): readonly unknown[] {
  return [suite ?? null, sortedPairs(labels), sortedPairs(encryptionContext)];
}

const sortedPairs = (record: Readonly<Record<string, string>> | undefined) =>
  record === undefined ? null : Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
