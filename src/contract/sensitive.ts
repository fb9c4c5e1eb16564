/**
 * The fields whose values may be in no log, trace, metric or error, read from the `x-sensitive` marks
 * of the schemas. Redaction goes by this list, and so does the JSON reader, which keeps their values
 * out of JavaScript strings.
 */
import { z } from 'zod';

import { ROUTES } from './routes.ts';

type Schema = z.core.$ZodType;

/** Names that carry tokens outside the bodies of this API. */
const TOKENS = ['authorization', 'token'] as const;

function parts(schema: Schema): readonly (readonly [string, Schema])[] {
  if (schema instanceof z.ZodObject) return Object.entries(schema.shape);
  if (schema instanceof z.ZodArray) return [['', schema.element]];
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable) {
    return [['', schema.unwrap()]];
  }
  if (schema instanceof z.ZodUnion) {
    return schema.options.map((option: Schema) => ['', option] as const);
  }
  return [];
}

const isSensitive = (schema: Schema): boolean =>
  (schema as z.ZodType).meta()?.['x-sensitive'] === true;

function collect(schema: Schema, name: string, into: Set<string>): void {
  if (isSensitive(schema)) into.add(name);
  for (const [member, part] of parts(schema)) collect(part, member === '' ? name : member, into);
}

function fields(): ReadonlySet<string> {
  const found = new Set<string>(TOKENS);
  for (const { body, response } of ROUTES) {
    if (body !== null) collect(body, '', found);
    collect(response, '', found);
  }
  return found;
}

export const SENSITIVE_FIELDS: ReadonlySet<string> = fields();
