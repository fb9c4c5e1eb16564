/**
 * Authorization: the one place where grants are made (promise P4).
 *
 * Permission comes before existence: a refusal names the operation and is the same whether or not
 * the key exists.
 */
import type { CedarValueJson, EntityJson, TypeAndId } from '@cedar-policy/cedar-wasm/nodejs';
import type { SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { BoundedCache } from './bounded-cache.ts';
import { mintGrant } from './grant.ts';
import type { Decision, Grant, Operation, Principal } from './grant.ts';
import { uidKey } from './compiled-policy.ts';
import type { PolicyLimit } from './policy-limit.ts';
import { BUILT_IN_POLICIES, SCHEMA, SYSTEM_POLICIES } from './policies.ts';
import { PolicySet } from './policy-set.ts';
import type { Question } from './policy-set.ts';
import type { Authorizer, BodyFacts, Explained, Resource } from './ports.ts';

export interface AuthorizationOptions {
  readonly epoch: Pick<SecurityEpoch, 'current' | 'onChange'>;
  /** Decisions remembered. */
  readonly capacity?: number | undefined;
  /** Another set than the built-in one. */
  readonly policies?: PolicySet | undefined;
  readonly clock?: (() => Date) | undefined;
}

/** What decisions are made with; several authorizers can share it. */
export interface Deciding {
  readonly policies: PolicySet;
  /** The epoch at which the set was in force: of grants. */
  readonly epoch: () => number;
  readonly decisions: BoundedCache<string, Decision>;
  readonly clock: () => Date;
}

export const DECISIONS_REMEMBERED = 20_000;
/** Characters of a remembered question. */
const LONGEST_REMEMBERED = 1_024;

/** The roles as one set; throws `policy_invalid` if this build's policies do not fit its schema. */
export const builtInPolicies = (): PolicySet => PolicySet.load(SCHEMA, BUILT_IN_POLICIES);

/** What decides about the service itself. */
export const systemPolicies = (): PolicySet => PolicySet.load(SCHEMA, SYSTEM_POLICIES);

const names = new WeakMap<Principal, string>();

/** Decides by one set of policies. */
export class PolicyAuthorizer implements Authorizer {
  readonly #with: Deciding;

  constructor(parts: Deciding) {
    this.#with = parts;
  }

  /** By a set that stays as it is. */
  static of(options: AuthorizationOptions): PolicyAuthorizer {
    const { epoch, capacity, policies = builtInPolicies(), clock = () => new Date() } = options;
    const decisions = new BoundedCache<string, Decision>(capacity ?? DECISIONS_REMEMBERED);
    epoch.onChange(({ scope }) => {
      if (scope === 'access') decisions.clear();
    });
    return new PolicyAuthorizer({ policies, epoch: () => epoch.current, decisions, clock });
  }

  /** Decisions remembered at the moment. */
  get cached(): number {
    return this.#with.decisions.size;
  }

  /** The policy set in force. */
  get revision(): string {
    return this.#with.policies.revision;
  }

  get readsKeys(): boolean {
    return this.#with.policies.readsResource;
  }

  authorize<O extends Operation>(
    principal: Principal,
    operation: O,
    resource: Resource,
    body?: BodyFacts,
  ): Grant<O> {
    // Read before deciding: a change in between makes the grant old, never the decision new.
    const epoch = this.#with.epoch();
    const decision = this.decide(principal, operation, resource, body);
    if (!decision.allowed) {
      throw new TwofoldError('forbidden', `This principal may not do ${operation} here.`);
    }
    const { namespace, key, ...circumstances } = resource;
    return mintGrant({ operation, namespace, key, principal, decision, epoch, circumstances });
  }

  refine<O extends Operation>(grant: Grant<O>, body: BodyFacts): Grant<O> {
    const { principal, operation, namespace, key, circumstances } = grant;
    return this.authorize(principal, operation, { namespace, key, ...circumstances }, body);
  }

  may(principal: Principal, operation: Operation, resource: Resource): boolean {
    return this.decide(principal, operation, resource).allowed;
  }

  awaitsBody(principal: Principal, operation: Operation, resource: Resource): boolean {
    const { policies } = this.#with;
    if (!policies.readsContext) return false;
    return policies.awaitsBody(this.#question(principal, operation, resource, undefined));
  }

  decide(
    principal: Principal,
    operation: Operation,
    resource: Resource,
    body?: BodyFacts,
  ): Decision {
    const { decisions, policies } = this.#with;
    const id = this.#remembered(principal, operation, resource, body);
    const known = decisions.get(id);
    if (known !== undefined) return known;
    const facts = policies.readsContext ? body : undefined;
    const { allowed, revision, ...explained } = policies.explain(
      this.#question(principal, operation, resource, facts),
    );
    const { limits } = explained;
    const decision = {
      allowed,
      revision,
      policies: explained.policies,
      ...(limits === undefined ? {} : { limits }),
    };
    // Long ones come of paths that name nothing; they are not worth their memory.
    if (explained.lasting && id.length <= LONGEST_REMEMBERED) decisions.set(id, decision);
    return decision;
  }

  limitsOf(principal: Principal): readonly PolicyLimit[] {
    const { issuer, subject, roles } = principal;
    const id = userId(issuer, subject);
    const parents = roles.map((name) => uidKey('Role', name));
    return this.#with.policies.limitsOf({ type: 'User', id, parents });
  }

  explain(
    principal: Principal,
    operation: Operation,
    resource: Resource,
    body?: BodyFacts,
  ): Explained {
    return this.#with.policies.explain(this.#question(principal, operation, resource, body));
  }

  /** Equal for questions that have the same answer, whatever the time. */
  #remembered(
    principal: Principal,
    operation: Operation,
    { namespace, key, resolved, tlsGroup }: Resource,
    body: BodyFacts | undefined,
  ): string {
    const { policies } = this.#with;
    const { revision, readsContext, readsResource } = policies;
    const who = nameOf(principal);
    const about = readsResource ? (resolved ?? null) : null;
    const named = about === null ? key : null;
    const asked = about === null ? null : `${about.id} ${String(about.revision)}`;
    const facts = readsContext ? [tlsGroup ?? null, body && canonicalFacts(body)] : null;
    return `${revision}${who}${JSON.stringify([operation, namespace, named, asked, facts])}`;
  }

  #question(
    principal: Principal,
    operation: Operation,
    resource: Resource,
    facts: BodyFacts | undefined,
  ): Question {
    return question(principal, operation, resource, facts, this.#with.clock());
  }
}

function nameOf(principal: Principal): string {
  const known = names.get(principal);
  if (known !== undefined) return known;
  const { issuer, subject, method, roles, acr, amr } = principal;
  const name = JSON.stringify([issuer, subject, method, roles, acr, amr]);
  names.set(principal, name);
  return name;
}

const userId = (issuer: string, subject: string): string => JSON.stringify([issuer, subject]);

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/iu;

function question(
  principal: Principal,
  operation: Operation,
  resource: Resource,
  facts: BodyFacts | undefined,
  now: Date,
): Question {
  const { issuer, subject, method, roles } = principal;
  const user = { type: 'User', id: userId(issuer, subject) };
  const parents = roles.map((id) => ({ type: 'Role', id }));
  const { target, labels } = resourceEntity(resource);
  const { context, pairs } = contextOf(facts);
  return {
    principal: user,
    action: operation,
    resource: target.uid,
    context: { ...context, ...circumstancesOf(principal, resource, now) },
    entities: [
      { uid: user, attrs: { issuer, subject, method }, parents },
      target,
      ...labels,
      ...pairs,
    ],
  };
}

type Entity = EntityJson & { uid: TypeAndId };

function circumstancesOf(
  { method, acr, amr }: Principal,
  { tlsGroup }: Resource,
  now: Date,
): Record<string, CedarValueJson> {
  const how = { method, amr: [...amr], ...(acr === null ? {} : { acr }) };
  const time = { __extn: { fn: 'datetime', arg: now.toISOString() } };
  return { time, authentication: how, ...(typeof tlsGroup === 'string' ? { tlsGroup } : {}) };
}

const LABELS = { type: 'Pairs', id: 'labels of the key' };

function resourceEntity({ namespace, key, resolved }: Resource): {
  readonly target: Entity;
  readonly labels: readonly Entity[];
} {
  const home = { type: 'Namespace', id: namespace };
  if (key === null) return { target: { uid: home, attrs: {}, parents: [] }, labels: [] };
  const uid = { type: 'Key', id: resolved?.name ?? key };
  const { aliases = [], labels = {} } = resolved ?? {};
  const attrs = {
    ...(resolved ? { id: resolved.id, name: resolved.name } : referenceOf(key)),
    aliases: [...aliases],
    labels: { __entity: LABELS },
  };
  return {
    target: { uid, attrs, parents: [home] },
    labels: [{ uid: LABELS, attrs: {}, parents: [], tags: { ...labels } }],
  };
}

const referenceOf = (key: string): Record<string, CedarValueJson> =>
  UUID.test(key) ? { id: key.toLowerCase() } : { name: key };

function contextOf(facts: BodyFacts | undefined) {
  const context: Record<string, CedarValueJson> = {};
  const pairs: EntityJson[] = [];
  const add = (name: string, tags: Readonly<Record<string, string>>) => {
    const uid = { type: 'Pairs', id: name };
    pairs.push({ uid, attrs: {}, parents: [], tags: { ...tags } });
    context[name] = { __entity: uid };
  };
  if (facts?.suite !== undefined) context['suite'] = facts.suite;
  if (facts?.origin !== undefined) context['origin'] = facts.origin;
  if (facts?.labels !== undefined) add('labels', facts.labels);
  if (facts?.encryptionContext !== undefined) {
    add('encryptionContext', facts.encryptionContext);
    context['encryptionContextNames'] = Object.keys(facts.encryptionContext);
  }
  return { context, pairs };
}

/** Equal for equal facts, whatever the order of their members. */
function canonicalFacts({ suite, origin, labels, encryptionContext }: BodyFacts) {
  return [suite ?? null, origin ?? null, sortedPairs(labels), sortedPairs(encryptionContext)];
}

const sortedPairs = (record: Readonly<Record<string, string>> | undefined) =>
  record === undefined ? null : Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
