/**
 * What of a question some policies can look at, their scopes apart, which are matched before Cedar is
 * asked (`policy-set.ts`). Most of what a question costs is the reading of its JSON.
 */
import type {
  CedarValueJson,
  EntityJson,
  EntityUidJson,
  PolicyJson,
} from '@cedar-policy/cedar-wasm/nodejs';
import type { Question } from './cedar-sets.ts';
import { uidKey } from './compiled-policy.ts';
import type { CompiledPolicy, EntityVariable } from './compiled-policy.ts';

/** A policy about everything, with the conditions of this one. */
export const conditionsOf = ({ effect, conditions }: CompiledPolicy): PolicyJson => ({
  effect,
  principal: { op: 'All' },
  action: { op: 'All' },
  resource: { op: 'All' },
  conditions,
});

/**
 * The members of the context that conditions read, and the entities that they can come to: from the
 * variables that they use or from those members, by attributes, tags and parents. All of them where
 * a condition names an entity itself, which may be any.
 */
export function relevant(question: Question, policies: readonly CompiledPolicy[]): Question {
  const reads = new Set(policies.flatMap((policy) => [...policy.reads]));
  const context = reads.has('*')
    ? question.context
    : Object.fromEntries(Object.entries(question.context).filter(([name]) => reads.has(name)));
  if (policies.some(({ entities }) => entities === null)) return { ...question, context };
  const used = new Set(policies.flatMap(({ entities }) => [...(entities ?? [])]));
  return { ...question, context, entities: reachable(question, context, used) };
}

function reachable(
  { principal, action, resource, entities }: Question,
  context: Question['context'],
  used: ReadonlySet<EntityVariable>,
): readonly EntityJson[] {
  const byUid = new Map(entities.map((entity) => [keyOf(entity.uid), entity]));
  const found = new Map<string, EntityJson>();
  const visit = (key: string): void => {
    const entity = byUid.get(key);
    if (entity === undefined || found.has(key)) return;
    found.set(key, entity);
    for (const parent of entity.parents) visit(keyOf(parent));
    for (const value of [...Object.values(entity.attrs), ...Object.values(entity.tags ?? {})]) {
      follow(value, visit);
    }
  };
  if (used.has('principal')) visit(keyOf(principal));
  if (used.has('action')) visit(uidKey('Action', action));
  if (used.has('resource')) visit(keyOf(resource));
  for (const value of Object.values(context)) follow(value, visit);
  return [...found.values()];
}

const keyOf = (uid: EntityUidJson): string => {
  const { type, id } = '__entity' in uid ? uid.__entity : uid;
  return uidKey(type, id);
};

/** Entities that a value refers to, of any depth. */
function follow(value: CedarValueJson, visit: (key: string) => void): void {
  if (typeof value !== 'object' || value === null) return;
  if ('__entity' in value) visit(keyOf(value as EntityUidJson));
  else for (const inner of Object.values(value)) follow(inner, visit);
}
