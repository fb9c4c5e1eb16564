/** Cedar policies of a namespace, and the question what they permit. */
import { z } from 'zod';

import { changeOf, dryRunQuery, requiredIfMatch } from './admin-keys.ts';
import { PAGING, page } from './answer.ts';
import { defineRoute, headers } from './route.ts';
import { keyName, keyReference, text, time } from './scalars.ts';
import type { ErrorCode } from '../errors.ts';

const TEMPLATES = ['admin', 'operator', 'user', 'auditor'] as const;
const MAX_TEXT = 8_192;
const subject = text(255, 'Of a token.');

const principal = z
  .union([z.strictObject({ role: subject }), z.strictObject({ issuer: subject, subject })])
  .meta({ id: 'PolicyPrincipal', description: 'A role, or one user.' });

const TERM = '[1-9][0-9]{0,8}\\/(?:(?:s|min)(?: burst [1-9][0-9]{0,8})?|day|month)';
const limit = z
  .string()
  .regex(
    new RegExp(`^${TERM}(?:, ${TERM}){0,2}$`),
    'must be like 100/s, 600/min burst 50, 10000/day or several of them with ", " between',
  )
  .meta({
    description:
      'Rate of each principal that the policy admits, like `100/s` or `600/min burst 50`, and how ' +
      'much it may do in a day or month of UTC, like `10000/day` or `100/s, 200000/month`: what ' +
      '`@limit` says in Cedar. Policies of a namespace have at most 32 of these.',
  });

export const policyTerms = {
  description: text(256, 'What it is for.').optional(),
  cedar: z
    .string()
    .max(MAX_TEXT)
    .optional()
    .meta({
      description:
        'One policy in Cedar, without slots. Or else `template`. Annotations: `@id` (its name), ' +
        '`@description`, and on a permit `@limit` (at most 32 in a namespace). Brackets ' +
        'and operators are nested some 45 deep at most.',
    }),
  template: z
    .strictObject({
      name: z.enum(TEMPLATES),
      principal,
      key: keyName.optional().meta({ description: 'The one key that it is about.' }),
      limit: limit.optional(),
    })
    .optional(),
} as const;

const policy = {
  name: z.string(),
  description: z.string(),
  cedar: z.string().meta({ description: 'As it is decided by.' }),
  template: z
    .object({
      name: z.enum(TEMPLATES),
      principal: z.unknown(),
      key: z.string().nullable(),
      limit: z.string().nullable(),
    })
    .nullable(),
  updatedAt: time,
  updatedBy: z.object({ issuer: z.string(), subject: z.string() }),
  revision: z.int().meta({ description: 'Of the set whose change made it so; for If-Match.' }),
} as const;
const policyResource = z.object(policy).meta({ id: 'Policy' });
const past = z
  .object({ ...policy, cedar: policy.cedar.nullable(), description: z.string().nullable() })
  .meta({ id: 'PastPolicy', description: 'Without `cedar` where the revision took it away.' });

const difference = z
  .object({
    name: z.string(),
    before: z.string().nullable(),
    after: z.string().nullable(),
  })
  .meta({ id: 'PolicyDifference', description: 'Null where there is no such policy.' });

const changed = z
  .object({
    setRevision: z.int(),
    changes: z.array(difference),
    locksOut: z.literal(true).optional().meta({
      description:
        'Nobody, or not who asks for it, could change policies after it; it takes an approval.',
    }),
    dryRun: z.literal(true).optional(),
  })
  .meta({ id: 'ChangedPolicies' });

const params = z.strictObject({ name: keyName });
const read = { plane: 'admin', operation: 'policies.read' } as const;
const change = { ...changeOf(params), operation: 'policies.change', response: changed } as const;
const ERRORS = [
  'not_found',
  'etag_mismatch',
  'precondition_required',
  'would_lock_out',
  'quota_exceeded',
  'read_only_grace',
  'storage_full',
] as const satisfies readonly ErrorCode[];
const revision = z
  .string()
  .regex(/^[0-9]{1,9}$/, 'must be a revision')
  .transform(Number);

export const listPolicies = defineRoute({
  ...read,
  method: 'GET',
  id: 'listPolicies',
  path: '/v1/admin/policies',
  summary: 'Policies of the namespace, by name. The ETag is that of the set.',
  query: z.strictObject(PAGING),
  response: page(policyResource, 'PolicyList'),
  errors: ['integrity_failed'],
});

export const getPolicySchema = defineRoute({
  plane: 'use',
  operation: 'access.ask',
  method: 'GET',
  id: 'getPolicySchema',
  path: '/v1/policy-schema',
  summary: 'The Cedar schema that policies are validated against, and the templates.',
  response: z
    .object({
      schema: z.string(),
      templates: z.array(z.object({ name: z.enum(TEMPLATES), cedar: z.string() })),
    })
    .meta({ id: 'PolicySchema' }),
  errors: [],
});

export const listPolicyRevisions = defineRoute({
  ...read,
  method: 'GET',
  id: 'listPolicyRevisions',
  path: '/v1/admin/policy-revisions',
  summary: 'What each revision of the set changed, newest first.',
  query: z.strictObject({ ...PAGING, name: keyName.optional() }),
  response: page(past, 'PolicyRevisionList'),
  errors: ['integrity_failed'],
});

export const diffPolicies = defineRoute({
  ...read,
  method: 'GET',
  id: 'diffPolicies',
  path: '/v1/admin/policy-revisions/{from}/diff/{to}',
  summary: 'What differs between two revisions of the set.',
  params: z.strictObject({ from: revision, to: revision }),
  response: z.object({ changes: z.array(difference) }).meta({ id: 'PolicyDiff' }),
  errors: ['not_found'],
});

export const rollBackPolicies = defineRoute({
  ...change,
  method: 'POST',
  id: 'rollBackPolicies',
  path: '/v1/admin/policy-revisions/{revision}/roll-back',
  summary: 'Makes the whole set what it was at a revision; If-Match names the set’s.',
  params: z.strictObject({ revision }),
  headers: headers({ 'if-match': requiredIfMatch }),
  query: dryRunQuery,
  errors: [...ERRORS, 'policy_invalid'],
});

export const getPolicy = defineRoute({
  ...read,
  method: 'GET',
  id: 'getPolicy',
  path: '/v1/admin/policies/{name}',
  summary: 'One policy of the namespace.',
  params,
  response: policyResource,
  errors: ['not_found'],
});

export const putPolicy = defineRoute({
  ...change,
  method: 'PUT',
  id: 'putPolicy',
  path: '/v1/admin/policies/{name}',
  summary: 'Makes a policy; with If-Match, changes the one of that name.',
  body: z
    .strictObject(policyTerms)
    .refine(
      ({ cedar, template }) => (cedar === undefined) !== (template === undefined),
      'has either cedar or template',
    )
    .meta({ id: 'PolicyRequest' }),
  errors: [...ERRORS, 'policy_invalid'],
});

export const deletePolicy = defineRoute({
  ...change,
  method: 'DELETE',
  id: 'deletePolicy',
  path: '/v1/admin/policies/{name}',
  summary: 'Takes a policy away.',
  headers: headers({ 'if-match': requiredIfMatch }),
  errors: ERRORS,
});

export const askAccess = defineRoute({
  plane: 'use',
  operation: 'access.ask',
  method: 'POST',
  id: 'askAccess',
  path: '/v1/authorize',
  summary: 'Whether an operation would be permitted, and why. About others: `policies.read`.',
  body: z
    .strictObject({
      operation: text(64, 'Name of the operation.'),
      key: keyReference.optional(),
      principal: z
        .strictObject({
          issuer: subject,
          subject,
          roles: z.array(subject).max(256).optional(),
          acr: subject.optional(),
          amr: z.array(subject).max(256).optional(),
        })
        .optional(),
      context: z
        .strictObject({
          suite: text(64, 'Id of a suite.').optional(),
          origin: z.enum(['anyone', 'service']).optional(),
          labels: z.record(z.string().max(63), z.string().max(255)).optional(),
          encryptionContext: z.record(z.string().max(255), z.string().max(4096)).optional(),
        })
        .optional(),
    })
    .meta({ id: 'AccessQuestion' }),
  response: z
    .object({
      allowed: z.boolean(),
      revision: z.string().meta({ description: 'Of the policies that decided.' }),
      policies: z.array(z.string()).meta({
        description: 'Those that decided; `grant/<id>` is a grant that was lent to the principal.',
      }),
      permits: z.array(z.string()),
      forbids: z.array(z.string()),
      errors: z.array(z.string()).meta({ description: 'Those that could not be evaluated.' }),
    })
    .meta({ id: 'AccessAnswer' }),
  errors: ['integrity_failed'],
});
