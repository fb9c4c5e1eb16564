/** Delegated grants on one key: uses of it, lent to somebody for a time. */
import { z } from 'zod';

import { CHANGE_ERRORS, dryRunQuery, idempotencyKey } from './admin-keys.ts';
import { PAGING, page } from './answer.ts';
import { encryptionContext } from './context.ts';
import { defineRoute, headers, keyParams } from './route.ts';
import { comingTime, keyReference, text, time, uuid } from './scalars.ts';

/** As `access/delegation.ts` has them; a test holds the two together. */
export const LENDABLE_OPERATIONS = [
  'keys.read',
  'wrap',
  'unwrap',
  'rewrap',
  'data-keys.create',
  'data-keys.create-wrapped',
  'encapsulate',
  'decapsulate',
  'sign',
  'verify',
  'csr',
  'mac',
  'verify-mac',
] as const;

const operation = z.enum(LENDABLE_OPERATIONS);
const party = z.object({ issuer: z.string(), subject: z.string() });
const constraintKind = z.enum(['equals', 'includes']).meta({
  description:
    '`equals`: the encryption context is exactly the pairs; `includes`: it holds them among others.',
});

const grant = {
  id: uuid,
  name: z.string().nullable(),
  key: z.string().meta({ description: 'Name of the key.' }),
  keyId: uuid,
  granter: party.meta({ description: 'Who made it.' }),
  grantee: party.meta({ description: 'Whom it serves.' }),
  operations: z.array(operation),
  encryptionContext: z
    .object({ kind: constraintKind, pairs: z.record(z.string(), z.string()) })
    .nullable()
    .meta({ description: 'What each use has to name; null for no constraint.' }),
  createdAt: time,
  expiresAt: time,
} as const;
export const grantResource = z.object(grant).meta({ id: 'KeyGrant' });

const params = z.strictObject({
  key: keyReference,
  id: z.string().max(64).meta({ description: 'UUID of the grant.' }),
});
const path = '/v1/admin/keys/{key}/grants';
const onGrant = `${path}/{id}` as const;
const read = { plane: 'admin', operation: 'grants.read' } as const;
const changed = z
  .object({ ...grant, ended: z.boolean(), dryRun: z.literal(true).optional() })
  .meta({ id: 'ChangedKeyGrant' });
const change = { plane: 'admin', query: dryRunQuery, response: changed } as const;

export const listGrants = defineRoute({
  ...read,
  method: 'GET',
  id: 'listGrants',
  path,
  summary: 'Grants in force on a key, by id.',
  params: keyParams,
  query: z.strictObject(PAGING),
  response: page(grantResource, 'KeyGrantList'),
  errors: ['key_not_found'],
});

export const getGrant = defineRoute({
  ...read,
  method: 'GET',
  id: 'getGrant',
  path: onGrant,
  summary: 'One grant in force.',
  params,
  response: grantResource,
  errors: ['key_not_found', 'not_found'],
});

export const createGrant = defineRoute({
  ...change,
  method: 'POST',
  id: 'createGrant',
  path,
  operation: 'grants.create',
  summary: 'Lends uses of a key, each of which policies have to permit to the caller on that key.',
  params: keyParams,
  headers: headers({ 'idempotency-key': idempotencyKey }),
  body: z
    .strictObject({
      grantee: z.strictObject({
        issuer: text(512, 'As tokens of the grantee name it.'),
        subject: text(512, 'As tokens of the grantee name it.'),
      }),
      operations: z.array(operation).min(1).max(LENDABLE_OPERATIONS.length),
      encryptionContext: z
        .strictObject({ kind: constraintKind, pairs: encryptionContext })
        .optional()
        .meta({ description: 'Only with operations whose requests name an encryption context.' }),
      expiresAt: comingTime.meta({ description: 'RFC 3339 time to come, at most 365 days away.' }),
      name: text(128, 'What people call it.').optional(),
    })
    .meta({ id: 'KeyGrantRequest' }),
  status: 201,
  also: { 200: 'With `dryRun=true`: what would be made.' },
  errors: [
    ...CHANGE_ERRORS,
    'version_not_usable',
    'quota_exceeded',
    'idempotency_mismatch',
    'idempotency_in_progress',
  ],
});

export const retireGrant = defineRoute({
  ...change,
  method: 'POST',
  id: 'retireGrant',
  path: `${onGrant}/retire`,
  operation: 'grants.retire',
  summary: 'Ends a grant at once; for its grantee and its granter, whatever policies say.',
  params,
  errors: [...CHANGE_ERRORS, 'not_found'],
});

export const revokeGrant = defineRoute({
  ...change,
  method: 'DELETE',
  id: 'revokeGrant',
  path: onGrant,
  operation: 'grants.retire',
  summary: 'Ends a grant at once; for whom policies permit to end the grants of others.',
  params,
  errors: [...CHANGE_ERRORS, 'not_found'],
});
