/** What a Cedar schema says of its actions: to which types they apply, and the groups that they are in. */
import { preparseSchema, schemaToJson } from '@cedar-policy/cedar-wasm/nodejs';
import type { SchemaJson } from '@cedar-policy/cedar-wasm/nodejs';
import { policyInvalid } from './policy-error.ts';

export interface Action {
  readonly id: string;
  readonly principalTypes: ReadonlySet<string>;
  readonly resourceTypes: ReadonlySet<string>;
  /** Itself, and the groups that it is in, of any depth. */
  readonly names: ReadonlySet<string>;
}

export interface CedarSchema {
  readonly text: string;
  /** The same, which Cedar reads faster. */
  readonly json: SchemaJson<string>;
  readonly actions: ReadonlyMap<string, Action>;
}

type ActionsJson = SchemaJson<string>[string]['actions'];

/** Those of this build and of tests: few, and asked for often. */
const read = new Map<string, CedarSchema>();

/** @throws TwofoldError policy_invalid */
export function readSchema(text: string): CedarSchema {
  const known = read.get(text);
  if (known !== undefined) return known;
  const answer = schemaToJson(text);
  if (answer.type === 'failure') throw policyInvalid(answer.errors, text);
  const parsed = preparseSchema('schema', text);
  if (parsed.type === 'failure') throw policyInvalid(parsed.errors, text);
  const actions = answer.json['']?.actions ?? {};
  const entries = Object.keys(actions).map((id) => [id, actionOf(actions, id)] as const);
  const schema = { text, json: answer.json, actions: new Map(entries) };
  read.set(text, schema);
  return schema;
}

function actionOf(actions: ActionsJson, id: string): Action {
  const { appliesTo } = actions[id] ?? {};
  return {
    id,
    principalTypes: new Set(appliesTo?.principalTypes ?? []),
    resourceTypes: new Set(appliesTo?.resourceTypes ?? []),
    names: namesOf(actions, id),
  };
}

function namesOf(actions: ActionsJson, id: string, found = new Set<string>()): ReadonlySet<string> {
  if (found.has(id)) return found;
  found.add(id);
  for (const group of actions[id]?.memberOf ?? []) namesOf(actions, group.id, found);
  return found;
}
