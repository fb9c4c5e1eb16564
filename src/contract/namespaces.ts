/** Namespaces of the installation; asked for in the root namespace. */
import { z } from 'zod';

import { STORED_ERRORS, changeOf, idempotencyKey } from './admin-keys.ts';
import { PAGING, page } from './answer.ts';
import { defineRoute, headers } from './route.ts';
import { namespaceName, text, time } from './scalars.ts';

const suspension = z.object({ at: time, reason: z.string() }).nullable();
const changedBy = z.object({ issuer: z.string(), subject: z.string() });

const namespace = {
  name: z.string(),
  description: z.string(),
  state: z.enum(['active', 'suspended']),
  suspension,
  createdAt: time.nullable().meta({ description: 'Null for the root namespace.' }),
  updatedAt: time.nullable(),
  updatedBy: changedBy.nullable(),
  revision: z.int().meta({ description: 'For If-Match; 0 for the root namespace.' }),
} as const;
export const namespaceResource = z.object(namespace).meta({ id: 'Namespace' });

const params = z.strictObject({ namespace: namespaceName });
const path = '/v1/admin/namespaces/{namespace}';
const read = { plane: 'admin', operation: 'namespaces.read' } as const;
const change = {
  ...changeOf(params),
  operation: 'namespaces.change',
  response: z
    .object({
      ...namespace,
      deleted: z.literal(true).optional(),
      removed: z.record(z.string(), z.int()).optional().meta({
        description: 'Of a removal: how many members of which sets went with it.',
      }),
      dryRun: z.literal(true).optional(),
    })
    .meta({ id: 'ChangedNamespace' }),
} as const;
const ERRORS = ['not_found', ...STORED_ERRORS] as const;
const reason = z
  .strictObject({ reason: text(256, 'Why; kept with the namespace and in the audit log.') })
  .meta({ id: 'NamespaceReasonRequest' });

export const listNamespaces = defineRoute({
  ...read,
  method: 'GET',
  id: 'listNamespaces',
  path: '/v1/admin/namespaces',
  summary: 'Namespaces, by name.',
  query: z.strictObject(PAGING),
  response: page(namespaceResource, 'NamespaceList'),
  errors: ['integrity_failed'],
});

export const getNamespace = defineRoute({
  ...read,
  method: 'GET',
  id: 'getNamespace',
  path,
  summary: 'One namespace.',
  params,
  response: namespaceResource,
  errors: ['not_found', 'integrity_failed'],
});

export const createNamespace = defineRoute({
  ...change,
  params: z.strictObject({}),
  headers: headers({ 'idempotency-key': idempotencyKey }),
  method: 'POST',
  id: 'createNamespace',
  path: '/v1/admin/namespaces',
  summary: 'Makes a namespace, in which nobody may do anything until it has policies.',
  body: z
    .strictObject({
      name: namespaceName,
      description: text(256, 'What it is for.').optional(),
    })
    .meta({ id: 'NamespaceRequest' }),
  status: 201,
  also: { 200: 'With `dryRun=true`: what would be made.' },
  errors: [
    ...ERRORS,
    'already_exists',
    'name_retired',
    'quota_exceeded',
    'idempotency_mismatch',
    'idempotency_in_progress',
  ],
});

export const suspendNamespace = defineRoute({
  ...change,
  method: 'POST',
  id: 'suspendNamespace',
  path: `${path}/suspend`,
  summary: 'Ends every use of a namespace at once, until it is resumed.',
  body: reason,
  errors: ERRORS,
});

export const resumeNamespace = defineRoute({
  ...change,
  method: 'POST',
  id: 'resumeNamespace',
  path: `${path}/resume`,
  summary: 'Ends the suspension of a namespace.',
  body: reason,
  errors: ERRORS,
});

export const deleteNamespace = defineRoute({
  ...change,
  method: 'DELETE',
  id: 'deleteNamespace',
  path,
  summary: 'Ends a namespace without keys that live, and all access to it, for ever.',
  errors: [...ERRORS, 'namespace_not_empty'],
});
