/**
 * What a decision that was recorded would have been under other policies, as far as its record says.
 *
 * Of policies that are in both sets the record tells which held, so nothing of the request has to be
 * known for them, also where their conditions read what no entry has. Of the others the scope is matched,
 * and conditions only where they read nothing but who the principal is; roles stand in entries of version 2,
 * and of version 1 are known where a policy that held, or did not, tells them. What is left is unknown, and an outcome that depends on it is
 * `undetermined`.
 */
import { evaluate } from '../access/cedar-sets.ts';
import { readSchema } from '../access/cedar-schema.ts';
import { covers, coversAction, uidKey } from '../access/compiled-policy.ts';
import type { CompiledPolicy, Constraint, ScopedEntity } from '../access/compiled-policy.ts';
import { SCHEMA } from '../access/policies.ts';
import { conditionsOf } from '../access/relevant.ts';

/** A decision as an audit entry has it. */
export interface RecordedDecision {
  readonly issuer: string;
  readonly subject: string;
  readonly method: string;
  /** Null: the entry does not say them. */
  readonly roles: readonly string[] | null;
  readonly operation: string;
  readonly namespace: string;
  /** Name of the key; undefined where it is not known which; null of an operation without one. */
  readonly key: string | null | undefined;
  /** Ids of the policies that decided. */
  readonly policies: readonly string[];
  readonly refused: boolean;
  /** Its items may have been decided each by other policies. */
  readonly batch: boolean;
}

export type Policies = ReadonlyMap<string, CompiledPolicy>;
export type Replayed = 'allowed' | 'denied' | 'undetermined';
/** Null: not known. */
type Truth = boolean | null;

/** Operators that never fail in a policy that was validated; arithmetic and extensions may. */
const SOUND = new Set([
  ...['Var', 'Value', 'Set', 'Record', '.', 'has', 'hasTag', 'getTag', '==', '!=', '<', '<=', '>'],
  ...['>=', 'in', '&&', '||', '!', 'contains', 'containsAll', 'containsAny', 'isEmpty', 'is'],
  ...['like', 'if-then-else'],
]);
/** Members of operators, which are no operators. */
const PARTS = new Set(['left', 'right', 'arg', 'attr', 'pattern', 'entity_type', 'if', 'then']);

/**
 * Operations whose requests may ask for more than that: another operation, or another key. Their
 * entries name the policies of all, so that none can be told to have decided the first.
 */
const MIXED = new Set([
  ...['keys.put-alias', 'rewrap', 'rewrap-jobs.create', 'rewrap-jobs.continue', 'sign-parallel'],
  ...['operations.read', 'operations.cancel', 'rotations.read', 'access.ask', 'audit.read'],
]);

/** Whether a policy that differs between the two sets is about the operation at all. */
export function touches(operation: string, then: Policies, now: Policies): boolean {
  const names = readSchema(SCHEMA).actions.get(operation)?.names ?? new Set();
  return [...new Set([...then.keys(), ...now.keys()])].some((id) => {
    const [before, after] = [then.get(id), now.get(id)];
    const differ = before?.text !== after?.text;
    return differ && [before, after].some((policy) => policy && coversAction(policy, names));
  });
}

/** What was decided; null where the record can be read in two ways. */
export function recordedOutcome(record: RecordedDecision, then: Policies): boolean | null {
  if (MIXED.has(record.operation)) return null;
  const listed = record.policies.map((id) => then.get(id));
  if (listed.includes(undefined)) return null;
  const permits = listed.filter((policy) => policy?.effect === 'permit').length;
  if (!record.refused) return permits > 0 && permits === listed.length ? true : null;
  // A permit stands in a denial where it failed, or where something else refused the request.
  return permits === 0 ? false : null;
}

/** @param then the policies that decided it */
export function replay(record: RecordedDecision, then: Policies, now: Policies): Replayed {
  const outcome = recordedOutcome(record, then);
  if (outcome === null) return 'undetermined';
  const past = new Past(record, then, outcome);
  const asked = [...now]
    .filter(([, policy]) => coversAction(policy, past.names))
    .map(([id, policy]) => ({ policy, held: past.held(id, policy) }));
  const permits = asked.filter(({ policy }) => policy.effect === 'permit');
  const forbids = asked.filter(({ policy }) => policy.effect === 'forbid');
  if (forbids.some(({ held }) => held === true)) return 'denied';
  if (permits.every(({ held }) => held === false)) return 'denied';
  const permitted = permits.some(({ held }) => held === true);
  const unforbidden = forbids.every(({ held }) => held === false);
  // What fails denies.
  const sound = asked.every(({ policy, held }) => held !== null || !mayFail(policy.conditions));
  return permitted && unforbidden && sound ? 'allowed' : 'undetermined';
}

class Past {
  readonly #record: RecordedDecision;
  readonly #then: Policies;
  readonly #outcome: boolean;
  /** Of the action and its groups. */
  readonly names: ReadonlySet<string>;
  readonly #types: ReadonlySet<string>;
  readonly #roles = new Map<string, boolean>();

  constructor(record: RecordedDecision, then: Policies, outcome: boolean) {
    this.#record = record;
    this.#then = then;
    this.#outcome = outcome;
    const action = readSchema(SCHEMA).actions.get(record.operation);
    this.names = action?.names ?? new Set();
    this.#types = action?.resourceTypes ?? new Set();
    if (record.roles === null) for (const [id, policy] of then) this.#learn(id, policy);
  }

  held(id: string, policy: CompiledPolicy): Truth {
    const recorded = this.#then.get(id)?.text === policy.text ? this.#recorded(id, policy) : null;
    return recorded ?? this.#matched(policy);
  }

  /** What the record says of a policy that was in force. */
  #recorded(id: string, policy: CompiledPolicy): Truth {
    const { policies, batch } = this.#record;
    if (batch && policy.conditional) return null;
    if (policies.includes(id)) return true;
    // Where a forbid held, permits are not named.
    return policy.effect === 'forbid' || this.#outcome || policies.length === 0 ? false : null;
  }

  #matched(policy: CompiledPolicy): Truth {
    const scope = both(this.#principal(policy.principal), this.#resource(policy.resource));
    if (scope === false || !policy.conditional) return scope;
    return both(scope, this.#conditions(policy));
  }

  #resource(constraint: Constraint): Truth {
    const { namespace, key } = this.#record;
    const home = { type: 'Namespace', id: namespace, parents: [] };
    const within = [uidKey('Namespace', namespace)];
    // A key of a name that no other constraint has stands for the one that is not known.
    const candidates: readonly (ScopedEntity | null)[] =
      this.#types.size === 1 && this.#types.has('Namespace')
        ? [home]
        : [
            ...(this.#types.has('Namespace') ? [home] : []),
            { type: 'Key', id: key ?? '', parents: within },
          ];
    const known = key !== undefined && key !== null;
    if (!known && this.#types.has('Key') && namesOneKey(constraint)) return null;
    return agreed(candidates.map((entity) => entity !== null && covers(constraint, entity)));
  }

  #principal(constraint: Constraint): Truth {
    const { issuer, subject } = this.#record;
    const user = { type: 'User', id: JSON.stringify([issuer, subject]), parents: [] };
    if (covers(constraint, user)) return true;
    const role = roleOf(constraint);
    if (role === null) return false;
    const { roles } = this.#record;
    if (roles !== null) return roles.some((name) => uidKey('Role', name) === role);
    return this.#roles.get(role) ?? null;
  }

  #learn(id: string, policy: CompiledPolicy): void {
    const role = roleOf(policy.principal);
    if (role === null || this.#record.batch) return;
    if (!coversAction(policy, this.names) || this.#resource(policy.resource) !== true) return;
    const recorded = this.#recorded(id, policy);
    if (recorded === true && (this.#outcome || !policy.conditional)) this.#roles.set(role, true);
    if (recorded === false && !policy.conditional) this.#roles.set(role, false);
  }

  /** Only of who it is: all of that stands in the record. */
  #conditions(policy: CompiledPolicy): Truth {
    const { entities, reads } = policy;
    const { issuer, subject, method, roles, operation } = this.#record;
    if (reads.size > 0 || mayFail(policy.conditions)) return null;
    if (entities === null ? roles === null || !asksForRoles(policy) : !isOfPrincipal(entities)) {
      return null;
    }
    const uid = { type: 'User', id: JSON.stringify([issuer, subject]) };
    if (![issuer, subject].every((text) => text.isWellFormed())) return null;
    const key = `replay\n${policy.text}`;
    const { permits, forbids, errors } = evaluate(key, () => ({ it: conditionsOf(policy) }), {
      principal: uid,
      action: operation,
      resource: { type: 'Namespace', id: this.#record.namespace },
      context: {},
      entities: [{ uid, attrs: { issuer, subject, method }, parents: parentsOf(roles) }],
    });
    return errors === null || errors.length > 0 ? null : permits.length + forbids.length > 0;
  }
}

const parentsOf = (roles: readonly string[] | null) =>
  (roles ?? []).map((id) => ({ type: 'Role', id }));

const isOfPrincipal = (entities: ReadonlySet<string>): boolean =>
  !entities.has('resource') && !entities.has('action');

/** Whether its conditions name roles and no other entity, and are about nothing but the principal. */
function asksForRoles({ conditions }: CompiledPolicy): boolean {
  // Quotes of texts are escaped in JSON, so that none looks like a member.
  const json = JSON.stringify(conditions);
  const all = (pattern: RegExp, wanted: string) =>
    [...json.matchAll(pattern)].every(([, found]) => found === wanted);
  return all(/"Var":"(\w+)"/gu, 'principal') && all(/"__entity":\{"type":"([^"]*)"/gu, 'Role');
}

const both = (a: Truth, b: Truth): Truth => {
  if (a === false || b === false) return false;
  return a === null || b === null ? null : true;
};

const agreed = (truths: readonly boolean[]): Truth => {
  const [first = null] = truths;
  return truths.every((truth) => truth === first) ? first : null;
};

const KEYS = uidKey('Key', '');
/** Whether it tells keys apart by what they are called. */
export const namesOneKey = (constraint: Constraint): boolean =>
  uidOf(constraint)?.startsWith(KEYS) ?? false;

function uidOf(constraint: Constraint): string | null {
  if (constraint.op === 'All') return null;
  return constraint.op === 'is' ? constraint.in : constraint.uid;
}

/** The role that a principal has to be in. */
function roleOf(constraint: Constraint): string | null {
  const uid = constraint.op === '==' ? null : uidOf(constraint);
  return uid?.startsWith(uidKey('Role', '')) === true ? uid : null;
}

/** Whether evaluation can end in an error. */
function mayFail(expression: unknown): boolean {
  if (Array.isArray(expression)) return expression.some(mayFail);
  if (typeof expression !== 'object' || expression === null) return false;
  return Object.entries(expression).some(([name, value]) => {
    if (name === 'Value' || name === 'Var' || name === 'kind') return false;
    if (name === 'Record') return mayFail(Object.values(value as object));
    return (
      !(SOUND.has(name) || PARTS.has(name) || name === 'body' || name === 'else') || mayFail(value)
    );
  });
}
