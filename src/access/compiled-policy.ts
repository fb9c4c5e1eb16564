/**
 * One Cedar policy, taken apart: its scope, which is matched here, and whether it has conditions, which
 * Cedar alone evaluates. The scope is all that Cedar's own matching looks at before a policy's
 * conditions, so a policy whose scope does not match cannot matter (`policy-set.ts`).
 */
import { hash } from 'node:crypto';
import { policySetTextToParts, policyToJson, validate } from '@cedar-policy/cedar-wasm/nodejs';
import type { EntityUidJson, PolicyJson } from '@cedar-policy/cedar-wasm/nodejs';
import { BoundedCache } from './bounded-cache.ts';
import type { CedarSchema } from './cedar-schema.ts';
import { policyInvalid, policyRefused } from './policy-error.ts';
import { checkAnnotations, termsOfLimit } from './policy-limit.ts';
import { checkConditions, checkNesting } from './policy-nesting.ts';
import type { PolicyTerms } from './policy-limit.ts';

export type Constraint =
  | { readonly op: 'All' }
  | { readonly op: '==' | 'in'; readonly uid: string }
  | { readonly op: 'is'; readonly type: string; readonly in: string | null };

export interface CompiledPolicy {
  readonly text: string;
  /** SHA-256 of the text, hex. */
  readonly digest: string;
  readonly annotatedId: string | null;
  /** Of each principal that it admits, by its `@limit`; null: it sets none. */
  readonly limit: PolicyTerms | null;
  readonly annotations: Readonly<Record<string, string | null>>;
  readonly effect: 'permit' | 'forbid';
  readonly principal: Constraint;
  /** Actions and groups of them; null: every action. */
  readonly actions: ReadonlySet<string> | null;
  readonly resource: Constraint;
  readonly conditional: boolean;
  /** Its `when` and `unless` clauses, in Cedar's JSON form. */
  readonly conditions: PolicyJson['conditions'];
  /** Members of the context that its conditions may read. */
  readonly reads: ReadonlySet<string>;
  /** Whether it tells keys apart. */
  readonly readsResource: boolean;
  /** Entities that its conditions begin at, by variable; null: any, where they name entities themselves. */
  readonly entities: ReadonlySet<EntityVariable> | null;
}

export type EntityVariable = 'principal' | 'action' | 'resource';

/** Parsed policies that are remembered, so that a change of one costs no parsing of the others. */
const REMEMBERED = 4_096;
const parsed = new BoundedCache<string, CompiledPolicy>(REMEMBERED);

const VARIABLES: readonly EntityVariable[] = ['principal', 'action', 'resource'];

/** As `==` compares entities. */
export const uidKey = (type: string, id: string): string => `${type}\n${id}`;

/**
 * One static policy.
 * @throws PolicyInvalid what does not parse, several policies, a template
 */
export function compilePolicy(text: string): CompiledPolicy {
  const known = parsed.get(text);
  if (known !== undefined) return known;
  const [part, ...more] = policyTexts(text);
  if (part === undefined) throw policyRefused('there is no policy in the text');
  if (more.length > 0) throw policyRefused('there are several policies in the text');
  const compiled = compile(text);
  parsed.set(text, compiled);
  return compiled;
}

/** @throws PolicyInvalid */
export function policyTexts(text: string): readonly string[] {
  checkNesting(text);
  const parts = policySetTextToParts(text);
  if (parts.type === 'failure') throw policyInvalid(parts.errors, text);
  if (parts.policy_templates.length > 0) throw policyRefused('templates are not taken');
  return parts.policies;
}

function compile(text: string): CompiledPolicy {
  const answer = policyToJson(text);
  if (answer.type === 'failure') throw policyInvalid(answer.errors, text);
  const { json } = answer;
  const { annotations = {} } = json;
  const conditions = JSON.stringify(json.conditions);
  const resource = constraintOf(json.resource);
  return {
    text,
    digest: hash('sha256', text, 'hex'),
    annotatedId: annotations['id'] ?? null,
    // One that was stored before it meant anything says nothing; what is stored anew is checked.
    limit: json.effect === 'permit' ? termsOfLimit(annotations['limit'] ?? '') : null,
    annotations,
    effect: json.effect,
    principal: constraintOf(json.principal),
    actions: actionsOf(json.action),
    resource,
    conditional: json.conditions.length > 0,
    conditions: json.conditions,
    reads: readsOf(json.conditions),
    readsResource: conditions.includes('{"Var":"resource"}') || namesKey(resource),
    // Read off the text as a whole: a string that looks like it only makes the question longer.
    entities: conditions.includes('"__entity"')
      ? null
      : new Set(VARIABLES.filter((name) => conditions.includes(`{"Var":"${name}"}`))),
  };
}

/** `key/` is the type's name and a line break, which no other type's begins with. */
const namesKey = (constraint: Constraint): boolean =>
  constraint.op === 'is'
    ? (constraint.in?.startsWith(uidKey('Key', '')) ?? false)
    : constraint.op !== 'All' && constraint.uid.startsWith(uidKey('Key', ''));

function constraintOf(json: PolicyJson['principal'] | PolicyJson['resource']): Constraint {
  if (json.op === 'All') return json;
  if (json.op === 'is') {
    return {
      op: 'is',
      type: json.entity_type,
      in: json.in === undefined ? null : slotless(json.in),
    };
  }
  return { op: json.op, uid: slotless(json) };
}

function slotless(json: { entity: EntityUidJson } | { slot: string }): string {
  if ('slot' in json) throw policyRefused('templates are not taken');
  const { type, id } = plainUid(json.entity);
  return uidKey(type, id);
}

const plainUid = (uid: EntityUidJson) => ('__entity' in uid ? uid.__entity : uid);

function actionsOf(json: PolicyJson['action']): ReadonlySet<string> | null {
  if (json.op === 'All') return null;
  if (json.op === '==') {
    if ('slot' in json) throw policyRefused('templates are not taken');
    return new Set([plainUid(json.entity).id]);
  }
  const entities = 'entities' in json ? json.entities : [json.entity];
  return new Set(entities.map((uid) => plainUid(uid).id));
}

/** Members of the context; `*` where the context is used as a whole. */
function readsOf(expression: unknown, found = new Set<string>()): ReadonlySet<string> {
  if (typeof expression !== 'object' || expression === null) return found;
  for (const [operator, value] of Object.entries(expression)) {
    const member = operator === '.' || operator === 'has' ? contextMember(value) : null;
    if (member !== null) found.add(member);
    else if (operator === 'Var' && value === 'context') found.add('*');
    // What stands in a literal is no expression.
    else if (operator !== 'Value') readsOf(value, found);
  }
  return found;
}

function contextMember(access: unknown): string | null {
  const { left, attr } = access as { left?: { Var?: unknown }; attr?: unknown };
  if (left?.Var !== 'context') return null;
  // `has` with a path names several.
  const first: unknown = Array.isArray(attr) ? attr[0] : attr;
  return typeof first === 'string' ? first : '*';
}

/**
 * Strict; what Cedar merely warns of is refused as well, and annotations that mean nothing here.
 * @throws PolicyInvalid
 */
export function validatePolicy({ json: schema }: CedarSchema, text: string, id: string): void {
  const { effect, annotations, conditions } = compilePolicy(text);
  checkConditions(conditions);
  const answer = validate({
    validationSettings: { mode: 'strict' },
    schema,
    policies: { staticPolicies: { [id]: text } },
  });
  if (answer.type === 'failure') throw policyInvalid(answer.errors, text);
  checkAnnotations(text, effect, annotations);
  const found = [
    ...[...answer.validationErrors, ...answer.validationWarnings].map(({ error }) => error),
    ...answer.otherWarnings,
  ];
  if (found.length > 0) throw policyInvalid(found, text);
}

/** Whether the scope of its action covers an action of these names. */
export const coversAction = ({ actions }: CompiledPolicy, names: ReadonlySet<string>): boolean =>
  actions === null || [...names].some((name) => actions.has(name));

/** An entity as scopes see it. */
export interface ScopedEntity {
  readonly type: string;
  readonly id: string;
  /** Keys (`uidKey`) of what it is in, itself left out. */
  readonly parents: readonly string[];
}

export function covers(constraint: Constraint, entity: ScopedEntity): boolean {
  if (constraint.op === 'All') return true;
  const self = uidKey(entity.type, entity.id);
  if (constraint.op === '==') return constraint.uid === self;
  if (constraint.op === 'is' && constraint.type !== entity.type) return false;
  const within = constraint.op === 'is' ? constraint.in : constraint.uid;
  return within === null || within === self || entity.parents.includes(within);
}
