/**
 * A Cedar policy set, ready to decide.
 *
 * Default is deny, and an error while a policy is evaluated denies too: Cedar skips a policy that
 * fails, which for a `forbid` would permit.
 *
 * The cost of a decision does not grow with the set: scopes are matched here, by action and principal,
 * and Cedar is asked about the policies that are left and have conditions. `test/access/scopes.test.ts`
 * compares that with Cedar's own decision over the whole set.
 */
import { createHash } from 'node:crypto';
import { evaluate } from './cedar-sets.ts';
import type { Question } from './cedar-sets.ts';
import { conditionsOf, relevant } from './relevant.ts';
import { readSchema } from './cedar-schema.ts';
import type { Action, CedarSchema } from './cedar-schema.ts';
import {
  compilePolicy,
  covers,
  coversAction,
  policyTexts,
  uidKey,
  validatePolicy,
} from './compiled-policy.ts';
import type { CompiledPolicy, ScopedEntity } from './compiled-policy.ts';
import type { Decision } from './grant.ts';
import type { PolicyLimit } from './policy-limit.ts';
import type { Explained } from './ports.ts';
import { policyRefused } from './policy-error.ts';

export type { Question } from './cedar-sets.ts';

/** A policy of the set by its id, which audit entries name. */
export interface NamedPolicy {
  readonly id: string;
  readonly compiled: CompiledPolicy;
}

/** What of the context comes with the body. */
const BODY_MEMBERS = new Set([
  '*',
  'suite',
  'origin',
  'labels',
  'encryptionContext',
  'encryptionContextNames',
]);

interface ByPrincipal {
  readonly action: Action;
  /** Policies about one user or one role, by its uid. */
  readonly named: ReadonlyMap<string, readonly NamedPolicy[]>;
  readonly others: readonly NamedPolicy[];
}

export class PolicySet {
  /** In audit entries. */
  readonly revision: string;
  /** Whether any policy looks at what the context has beside the time. */
  readonly readsContext: boolean;
  /** Whether any policy looks at more of a key than its namespace. */
  readonly readsResource: boolean;
  readonly policies: readonly NamedPolicy[];
  /** By policy. */
  readonly #limits: ReadonlyMap<string, PolicyLimit>;
  readonly #schema: CedarSchema;
  readonly #actions = new Map<string, ByPrincipal>();

  /** Of policies that were validated before. */
  constructor(schema: CedarSchema, revision: string, policies: readonly NamedPolicy[]) {
    this.#schema = schema;
    this.revision = revision;
    this.policies = policies;
    this.#limits = limitsOf(policies);
    this.readsContext = policies.some(({ compiled: { reads } }) =>
      [...reads].some((member) => member !== 'time'),
    );
    this.readsResource = policies.some(({ compiled }) => compiled.readsResource);
  }

  /**
   * Parses and validates strictly against the schema; validation warnings refuse it as well.
   *
   * @param policies static policies in Cedar's text form, each with a unique `@id`
   * @throws PolicyInvalid with what Cedar says
   */
  static load(schema: string, policies: string): PolicySet {
    const read = readSchema(schema);
    const named = policyTexts(policies).map((text) => {
      const compiled = compilePolicy(text);
      const id = compiled.annotatedId;
      if (id === null || !/^[a-z0-9][a-z0-9._-]{0,127}$/u.test(id)) {
        throw policyRefused(
          'a policy needs an @id of lower-case letters, digits, ".", "_" and "-"',
        );
      }
      validatePolicy(read, text, id);
      return { id, compiled };
    });
    if (new Set(named.map(({ id }) => id)).size !== named.length) {
      throw policyRefused('two policies have the same @id');
    }
    return new PolicySet(read, revisionOf(schema, policies), named);
  }

  decide(question: Question): Decision {
    const { allowed, revision, policies, limits } = this.explain(question);
    return { allowed, revision, policies, ...(limits === undefined ? {} : { limits }) };
  }

  /** Whether, if the body says so, another permit may hold, or a forbid no longer. */
  awaitsBody(question: Question): boolean {
    const candidates = this.#candidates(question);
    const forbidden = candidates.some(
      ({ compiled: { effect, conditional } }) => effect === 'forbid' && !conditional,
    );
    return (
      !forbidden &&
      candidates.some(({ compiled: { reads } }) =>
        [...reads].some((member) => BODY_MEMBERS.has(member)),
      )
    );
  }

  explain(question: Question): Explained {
    const candidates = this.#candidates(question);
    const conditional = candidates.filter(({ compiled }) => compiled.conditional);
    const plain = candidates.filter(({ compiled }) => !compiled.conditional);
    const of = (effect: 'permit' | 'forbid') =>
      plain.filter(({ compiled }) => compiled.effect === effect).map(({ id }) => id);
    const asked = this.#evaluate(conditional, question);
    const permits = [...of('permit'), ...asked.permits].sort();
    const forbids = [...of('forbid'), ...asked.forbids].sort();
    const failed = asked.errors === null ? conditional.map(({ id }) => id) : asked.errors;
    const errors = [...failed].sort();
    const allowed = permits.length > 0 && forbids.length === 0 && errors.length === 0;
    const lasting = conditional.every(
      ({ compiled: { reads } }) => !reads.has('time') && !reads.has('*'),
    );
    const against = forbids.length > 0 ? forbids : errors;
    const policies = allowed ? permits : against;
    return {
      allowed,
      revision: this.revision,
      policies,
      permits,
      forbids,
      errors,
      lasting,
      ...(allowed ? this.#limited(permits) : {}),
    };
  }

  /** Limits of policies about a principal, wherever and whatever it asks; what conditions come to is open. */
  limitsOf(user: ScopedEntity): readonly PolicyLimit[] {
    return this.policies.flatMap(({ id, compiled }) => {
      const limit = this.#limits.get(id);
      return limit !== undefined && covers(compiled.principal, user) ? [limit] : [];
    });
  }

  #limited(permits: readonly string[]): { readonly limits?: readonly PolicyLimit[] } {
    if (this.#limits.size === 0) return {};
    const limits = permits.flatMap((id) => this.#limits.get(id) ?? []);
    return limits.length === 0 ? {} : { limits };
  }

  /** Of permits that conditions hold for, none is named where a forbid holds. */
  #evaluate(policies: readonly NamedPolicy[], question: Question) {
    if (policies.length === 0) return { permits: [], forbids: [], errors: [] };
    const { action } = this.#of(question.action);
    const groups = [...action.names].filter((name) => name !== action.id);
    const whole: Question = {
      ...question,
      entities: [
        ...question.entities,
        {
          uid: { type: 'Action', id: action.id },
          attrs: {},
          parents: groups.map((id) => ({ type: 'Action', id })),
        },
      ],
    };
    const texts = () =>
      Object.fromEntries(policies.map(({ id, compiled }) => [id, conditionsOf(compiled)]));
    // By what they say: a change of other policies leaves those parsed that stay.
    const key = policies.map(({ id, compiled }) => `${id} ${compiled.digest}`).join('\n');
    return evaluate(
      key,
      texts,
      relevant(
        whole,
        policies.map(({ compiled }) => compiled),
      ),
    );
  }

  /** Policies whose scope matches; none where the action does not apply to such a resource. */
  #candidates(question: Question): readonly NamedPolicy[] {
    const { action, named, others } = this.#of(question.action);
    const { principal, resource } = question;
    if (!action.principalTypes.has(principal.type)) return [];
    if (!action.resourceTypes.has(resource.type) || !isText(question)) return [];
    const [who, what] = [scoped(question, principal), scoped(question, resource)];
    const mine = [uidKey(who.type, who.id), ...who.parents].flatMap((uid) => named.get(uid) ?? []);
    const unique = new Set([...mine, ...others]);
    return [...unique].filter(
      ({ compiled }) => covers(compiled.principal, who) && covers(compiled.resource, what),
    );
  }

  #of(id: string): ByPrincipal {
    const known = this.#actions.get(id);
    if (known !== undefined) return known;
    const action = this.#schema.actions.get(id) ?? NO_ACTION;
    const made = byPrincipal(action, this.policies);
    if (action !== NO_ACTION) this.#actions.set(id, made);
    return made;
  }
}

const NO_ACTION: Action = {
  id: '',
  principalTypes: new Set(),
  resourceTypes: new Set(),
  names: new Set(),
};

function limitsOf(policies: readonly NamedPolicy[]): ReadonlyMap<string, PolicyLimit> {
  return new Map(
    policies.flatMap(({ id, compiled: { limit } }) =>
      limit === null ? [] : [[id, { policy: id, ...limit }] as const],
    ),
  );
}

function byPrincipal(action: Action, policies: readonly NamedPolicy[]): ByPrincipal {
  const named = new Map<string, NamedPolicy[]>();
  const others: NamedPolicy[] = [];
  for (const policy of policies) {
    if (!coversAction(policy.compiled, action.names)) continue;
    const { principal } = policy.compiled;
    const uid =
      principal.op === 'is' ? principal.in : principal.op === 'All' ? null : principal.uid;
    if (uid === null) others.push(policy);
    else if (named.get(uid)?.push(policy) === undefined) named.set(uid, [policy]);
  }
  return { action, named, others };
}

/** Cedar takes well-formed Unicode only; what is none matches nothing. */
const isText = ({ principal, resource, entities }: Question): boolean =>
  principal.id.isWellFormed() &&
  resource.id.isWellFormed() &&
  entities.every(({ parents }) => parents.every((uid) => !('id' in uid) || uid.id.isWellFormed()));

function scoped({ entities }: Question, { type, id }: { type: string; id: string }): ScopedEntity {
  const entity = entities.find(({ uid }) => 'id' in uid && uid.type === type && uid.id === id);
  const parents = (entity?.parents ?? []).map((uid) =>
    'id' in uid ? uidKey(uid.type, uid.id) : uidKey(uid.__entity.type, uid.__entity.id),
  );
  return { type, id, parents };
}

/** Both lengths are hashed, so no two pairs have the same input. */
function revisionOf(schema: string, policies: string): string {
  const input = JSON.stringify([schema, policies]);
  return createHash('sha256').update(input).digest('hex').slice(0, 32);
}
