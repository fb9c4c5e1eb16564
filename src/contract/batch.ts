/** Batches: many inputs of one operation on one key, answered in order, each with its own outcome. */
import { z } from 'zod';

import { itemError } from './problem.ts';
import { text } from './scalars.ts';

/** Most items of a batch; more are refused with `batch_too_large` before any is looked at. */
export const MAX_BATCH_ITEMS = 1000;

/** Member of every item: the caller's name for it, given back with its result. */
export const REF = {
  ref: text(128, "The caller's name for the item, given back with its result.").optional(),
} as const;

/** The body: `items`, each the body of the single route and an optional `ref`. */
export const batchOf = <T extends z.ZodType>(item: T, name: string) =>
  z
    .strictObject({
      items: z.array(item).min(1).meta({
        description:
          'At most 1,000. A malformed item refuses the request; other failures are the item’s.',
        maxItems: MAX_BATCH_ITEMS,
      }),
    })
    .meta({ id: name });

/** Member of every result. */
export const ECHOED_REF = {
  ref: z.string().nullable().meta({ description: '`ref` of the item, or null.' }),
} as const;

/** The answer: `results` in the order of `items`, each an answer of the single route or its error. */
export const resultsOf = <T extends z.ZodType>(answer: T, name: string) =>
  z
    .object({
      results: z.array(z.union([z.object({ ...ECHOED_REF, error: itemError }), answer])),
    })
    .meta({ id: name });
