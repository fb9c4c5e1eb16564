/** Which operations are uses of keys: those that the schema of policies has in its group `use`. */
import { readSchema } from './cedar-schema.ts';
import type { Operation } from './grant.ts';
import { SCHEMA } from './policies.ts';

export const isUse = (operation: Operation): boolean =>
  readSchema(SCHEMA).actions.get(operation)?.names.has('use') === true;
