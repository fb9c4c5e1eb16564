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

/** The members that the object at `path` may have. */
function membersAt(schema: Schema, path: readonly PropertyKey[]): readonly string[] {
  let at = inside(schema);
  for (const step of path) {
    if (at instanceof z.ZodArray) at = inside(at.element);
    else if (at instanceof z.ZodObject)
      at = inside((at.shape as Record<PropertyKey, Schema>)[step] ?? at);
  }
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
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

function messageOf(issue: z.core.$ZodIssue, schema: Schema): string {
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
 */
export function refusal(
  error: z.core.$ZodError,
  schema: Schema,
  unknown: 'unknown_field' | 'unknown_parameter',
  place: Place,
): RefusedInput {
  const errors = error.issues.slice(0, MOST).map((issue): InputError => ({
    path: place(knownPath(schema, issue.path)),
    code: codeOf(issue, unknown),
    message: messageOf(issue, schema),
  }));
  const [first, ...rest] = errors;
  return new RefusedInput([
    first ?? { path: '', code: 'invalid_value', message: 'is not accepted' },
    ...rest,
  ]);
}
