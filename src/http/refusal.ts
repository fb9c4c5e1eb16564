/**
 * What a schema refused, in the words of the contract. Field names that the contract does not know
 * came from the caller, who may have put anything there: they are never repeated.
 */
import { z } from 'zod';

import { ERRORS } from '../errors.ts';
import { RefusedInput } from './problem.ts';
import type { InputError } from '../contract/problem.ts';
import type { ErrorCode } from '../errors.ts';

/** Names the place of an issue: its path to the text of `InputError.path`. */
export type Place = (path: readonly PropertyKey[]) => string;

type Schema = z.core.$ZodType;

function inside(schema: Schema): Schema {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable) {
    return inside(schema.unwrap());
  }
  return schema;
}

/** The objects that a place may hold: one, or those of a union. */
function objectsOf(schema: Schema): readonly z.ZodObject[] {
  const at = inside(schema);
  if (at instanceof z.ZodUnion) return (at.options as readonly Schema[]).flatMap(objectsOf);
  return at instanceof z.ZodObject ? [at] : [];
}

/** What stands at `step` of it; itself where it has no such member. */
function stepInto(schema: Schema, step: PropertyKey): Schema {
  const at = inside(schema);
  if (at instanceof z.ZodArray) return inside(at.element);
  const members = objectsOf(at).map(({ shape }) => (shape as Record<PropertyKey, Schema>)[step]);
  return inside(members.find((member) => member !== undefined) ?? at);
}

const schemaAt = (schema: Schema, path: readonly PropertyKey[]): Schema =>
  path.reduce<Schema>(stepInto, inside(schema));

/** The members that the object at `path` may have. */
function membersAt(schema: Schema, path: readonly PropertyKey[]): readonly string[] {
  return objectsOf(schemaAt(schema, path)).flatMap(({ shape }) => Object.keys(shape));
}

/** Of an issue with a union: those of the one alternative that was meant, as far as its members tell. */
function narrowed(issue: z.core.$ZodIssue): readonly z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const meant = issue.errors.filter((issues) => issues.every(({ path }) => path.length > 0));
  const [only] = meant;
  if (only === undefined || meant.length > 1) return [issue];
  return only.map((each) => ({ ...each, path: [...issue.path, ...each.path] }));
}

/** Where in a map the issue is, whose names are the caller's; null where it is in none. */
function entryOf(
  schema: Schema,
  path: readonly PropertyKey[],
  value: unknown,
): { readonly number: number } | null {
  const known = knownPath(schema, path);
  const name = path[known.length];
  if (name === undefined || !(schemaAt(schema, known) instanceof z.ZodRecord)) return null;
  const map = known.reduce<unknown>(
    (at, step) => (at as Readonly<Record<PropertyKey, unknown>> | null | undefined)?.[step],
    value,
  );
  if (typeof map !== 'object' || map === null) return null;
  return { number: Object.keys(map).indexOf(String(name)) + 1 };
}

/** Whether the step is an array index or a member that the contract names. */
function isKnown(schema: Schema, path: readonly PropertyKey[], index: number): boolean {
  const step = path[index];
  return typeof step === 'number' || membersAt(schema, path.slice(0, index)).includes(String(step));
}

function knownPath(schema: Schema, path: readonly PropertyKey[]): PropertyKey[] {
  const unknown = path.findIndex((_, index) => !isKnown(schema, path, index));
  return unknown < 0 ? [...path] : path.slice(0, unknown);
}

function codeOf(issue: z.core.$ZodIssue, unknown: ErrorCode): ErrorCode {
  if (issue.code === 'unrecognized_keys') return unknown;
  const code = issue.code === 'custom' ? (issue.params?.['code'] as unknown) : undefined;
  return typeof code === 'string' && code in ERRORS ? (code as ErrorCode) : 'invalid_value';
}

/** What the alternatives of a union of objects are, when none was meant or several. */
function alternativesOf(schema: Schema, path: readonly PropertyKey[]): string | null {
  const names = objectsOf(schemaAt(schema, path)).map(({ shape }) => Object.keys(shape).join(', '));
  return names.length < 2 ? null : `must be an object with one of these: ${names.join('; ')}`;
}

function messageOf(issue: z.core.$ZodIssue, schema: Schema): string {
  if (issue.code === 'invalid_key') return issue.issues[0]?.message ?? issue.message;
  if (issue.code === 'invalid_union') return alternativesOf(schema, issue.path) ?? issue.message;
  if (issue.code === 'unrecognized_keys') {
    const members = membersAt(schema, issue.path);
    return members.length === 0 ? 'takes none here' : `has only: ${members.join(', ')}`;
  }
  if (issue.code === 'invalid_type' && issue.input === undefined) {
    return `must be ${issue.expected}`;
  }
  return issue.message;
}

/** At most this many complaints are listed; one batch can have thousands. */
const MOST = 20;

/**
 * The refusal of what failed `schema`.
 * @param unknown the code of a name that the schema does not have
 * @param value what was refused, to say which entry of a map it is
 */
export function refusal(
  error: z.core.$ZodError,
  schema: Schema,
  unknown: 'unknown_field' | 'unknown_parameter',
  place: Place,
  value?: unknown,
): RefusedInput {
  const issues = error.issues.flatMap(narrowed).slice(0, MOST);
  const errors = issues.map((issue): InputError => {
    const entry = entryOf(schema, issue.path, value);
    const message = messageOf(issue, schema);
    return {
      path: place(knownPath(schema, issue.path)),
      code: codeOf(issue, unknown),
      message: entry === null ? message : `entry ${String(entry.number)}: ${message}`,
    };
  });
  const [first, ...rest] = errors;
  return new RefusedInput([
    first ?? { path: '', code: 'invalid_value', message: 'is not accepted' },
    ...rest,
  ]);
}
