/** What audit entries say of encryption contexts: which values in clear, and how the others are looked for. */
import { z } from 'zod';

import { STORED_ERRORS, changeOf } from './admin-keys.ts';
import { BINDING } from './context.ts';
import { defineRoute } from './route.ts';
import { base64, text, time } from './scalars.ts';

/** As many as one namespace declares. */
const MAX_NAMES = 64;

const contextName = z
  .string()
  .min(1)
  .max(256)
  .refine((name) => name.isWellFormed(), 'must be well-formed text');

const members = {
  names: z.array(z.string()).meta({ description: 'Sorted.' }),
  updatedAt: time.nullable(),
  updatedBy: z.object({ issuer: z.string(), subject: z.string() }).nullable(),
  revision: z.int().meta({ description: 'For If-Match; 0 while nothing was ever declared.' }),
} as const;
const loggable = z.object(members).meta({ id: 'LoggableContext' });
const changed = z
  .object({ ...members, dryRun: z.literal(true).optional() })
  .meta({ id: 'ChangedLoggableContext' });

const path = '/v1/admin/audit/loggable-context';

export const getLoggableContext = defineRoute({
  plane: 'admin',
  method: 'GET',
  id: 'getLoggableContext',
  path,
  operation: 'audit.configure',
  summary: 'Names of the encryption context whose values audit entries have in clear.',
  response: loggable,
  errors: ['not_found'],
});

export const putLoggableContext = defineRoute({
  ...changeOf(z.strictObject({})),
  method: 'PUT',
  id: 'putLoggableContext',
  path,
  operation: 'audit.configure',
  summary: 'Declares them; entries that were made before stay as they are.',
  body: z
    .strictObject({
      names: z
        .array(contextName)
        .max(MAX_NAMES)
        .meta({ description: 'All others stand in entries as an HMAC under the audit key.' }),
    })
    .meta({ id: 'LoggableContextRequest' }),
  response: changed,
  errors: ['precondition_required', ...STORED_ERRORS],
});

export const hashAuditValues = defineRoute({
  plane: 'use',
  method: 'POST',
  id: 'hashAuditValues',
  path: '/v1/audit/hash',
  operation: 'audit.hash',
  summary: 'How an encryption context and aad stand in audit entries, to look for them.',
  body: z
    .strictObject({
      ...BINDING,
      ref: text(
        128,
        "The caller's name for an item of a batch; without it, one that has none.",
      ).optional(),
    })
    .refine(
      ({ encryptionContext, aad, ref }) =>
        encryptionContext !== undefined || aad !== undefined || ref !== undefined,
      'has encryptionContext, aad or ref, or several',
    )
    .meta({ id: 'AuditHashRequest' }),
  response: z
    .object({
      contextHmac: base64('Of the encryption context; null without a pair.').nullable(),
      aadHmac: base64('Of the aad; null where none was sent.').nullable(),
      version1: base64(
        'Of both together, which is what entries of version 1 have as `contextHmac`.',
      ).nullable(),
      itemHash: base64(
        'How an item of a batch with this `ref`, context and aad stands in `items`, 16 bytes.',
      ),
    })
    .meta({ id: 'AuditHash' }),
  errors: ['invalid_value'],
});
