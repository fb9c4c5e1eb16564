/** Parts that many answers share. Answers are open: clients ignore members that they do not know. */
import { z } from 'zod';

import { NAME } from '../name.ts';
import { keyVersion, suiteId, text, time, uuid } from './scalars.ts';

/** What was used; in every crypto answer. */
export const USED = {
  key: z.string().meta({ description: 'Name of the key.' }),
  keyId: uuid.meta({ description: 'UUID of the key, lower case.' }),
  keyVersion,
  suite: suiteId,
} as const;

/** When the next rotation is due, after which a rewrap or a new signature is wise. */
export const refreshAfter = time
  .nullable()
  .meta({ description: 'When the next rotation of the key is due; null while none is planned.' });

/** `anyone` made the ciphertext with the public key alone; `service` bound it to a secret as well. */
export const origin = z
  .enum(['anyone', 'service'])
  .meta({ description: 'Who can have made the ciphertext.' });

/** Names of the response headers that carry members of byte answers. */
export const USED_HEADERS = {
  key: `${NAME.header}Key`,
  keyId: `${NAME.header}Key-Id`,
  keyVersion: `${NAME.header}Key-Version`,
  suite: `${NAME.header}Suite`,
} as const;

/** One page of a list; `nextPageToken` is null on the last one. */
export const page = <T extends z.ZodType>(item: T, name: string) =>
  z
    .object({
      items: z.array(item),
      nextPageToken: z
        .string()
        .nullable()
        .meta({
          description:
            'Give it as `pageToken` with the same filters; null at the end. A page of several ' +
            'filters may be short of its size, even empty, before the end.',
        }),
    })
    .meta({ id: name });

/** Items of a page whose size the query does not say. */
export const DEFAULT_PAGE_SIZE = 50;

/** Query parameters of every list. */
export const PAGING = {
  pageSize: z
    .string()
    .regex(/^[1-9][0-9]{0,3}$/, 'must be 1 to 1000')
    .transform(Number)
    .pipe(z.int().max(1000))
    .optional()
    .meta({
      description: `Most items of the page, 1 to 1000; ${String(DEFAULT_PAGE_SIZE)} when absent.`,
    }),
  pageToken: z
    .string()
    .max(1024)
    .optional()
    .meta({ description: 'From the previous page; bound to its filters and principal.' }),
} as const;

/** Labels of a key; names as keys are named, with `/` for prefixes. */
export const labelName = z
  .string()
  .regex(/^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}$/, 'has a bad label name');
export const labelValue = text(255, 'Value of a label.');
export const MAX_LABELS = 64;
