/** Errors: RFC 9457 problem documents, the same form on every route and from Node's HTTP parser. */
import { z } from 'zod';

import { ERRORS } from '../errors.ts';
import { NAME } from '../name.ts';
import type { ErrorCode } from '../errors.ts';

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';

/** Every code, in the order of the table of `errors.ts`. Codes only grow. */
export const ERROR_CODES = Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]];

export const problemType = (code: ErrorCode): string => NAME.problemType + code;

const code = z.enum(ERROR_CODES).meta({ id: 'ErrorCode', description: 'Stable; switch on this.' });

/** One member of the input that was refused. */
export const inputError = z
  .object({
    path: z.string().meta({
      description:
        'JSON pointer (RFC 6901) into the body, `?name` of a query parameter, or a header name.',
    }),
    code,
    message: z.string().meta({ description: 'For people. Never repeats what was sent.' }),
  })
  .meta({ id: 'InputError' });

export const problem = z
  .object({
    type: z.string().meta({ description: `\`${NAME.problemType}\` and the code.` }),
    title: z.string(),
    status: z.int(),
    code,
    detail: z.string().optional(),
    requestId: z.string(),
    errors: z.array(inputError).optional(),
  })
  .meta({ id: 'Problem', description: 'RFC 9457.' });

export type Problem = z.infer<typeof problem>;
export type InputError = z.infer<typeof inputError>;

/** Why one item of a batch failed. */
export const itemError = z
  .object({ code, title: z.string(), status: z.int(), detail: z.string().optional() })
  .meta({ id: 'ItemError' });
export type ItemError = z.infer<typeof itemError>;
