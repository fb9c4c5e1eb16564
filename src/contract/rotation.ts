/** Rotation policies of keys and of namespaces: what rotates by itself, and when. */
import { z } from 'zod';

import { STORED_ERRORS, CHANGE_ERRORS, changeOf, requiredIfMatch } from './admin-keys.ts';
import { MAX_LABELS, PAGING, labelName, labelValue, page } from './answer.ts';
import { keyResource } from './keys.ts';
import { policyEffects } from './policy-effects.ts';
import { NOTICE, duration, rotationPolicy } from './rotation-policy.ts';
import { defineRoute, headers, keyParams } from './route.ts';
import { keyName, suiteId, text, time, uuid } from './scalars.ts';

const given = duration.max(64);
const notBefore = time
  .refine((value) => z.iso.datetime().safeParse(value).success, 'must be RFC 3339 in UTC')
  .transform((value) => new Date(value));

/** What a client states of a policy; what is absent or null, as it is read, is not asked for. */
export const TERMS = {
  interval: given.nullish().meta({ description: 'Longest age of a primary version.' }),
  maxUses: z.int().min(1).nullish().meta({
    description:
      'Protecting uses of a primary version. Instances reserve them in blocks, which count whole: at most an eighth of what was counted and of what is left, single ones near the end. So a version has no more uses, but for those until its rotation is done, and of each other instance, and of each stop, up to a block fewer.',
  }),
  upgrade: z
    .strictObject({
      suite: suiteId,
      notBefore: notBefore.meta({ override: { type: 'string', format: 'date-time' } }),
    })
    .nullish()
    .meta({ description: 'The suite to rotate to, once, at a date.' }),
  retire: z
    .strictObject({
      keepVersions: z.int().min(1).max(100_000).nullish(),
      after: given.nullish(),
    })
    .nullish()
    .meta({
      description: 'When superseded versions are deactivated and closed; none is destroyed.',
    }),
  notice: given.nullish().meta({ description: NOTICE }),
  paused: z
    .strictObject({ at: time, reason: z.string() })
    .nullish()
    .meta({
      description:
        'As it was read, so that a policy can be put back as it is; it has to say what stands, since to pause ' +
        'and to resume are routes of their own.',
    }),
  revision: z.int().min(1).optional().meta({
    description: 'As it was read. It has no effect: `If-Match` says what is changed.',
  }),
} as const;

export const policyReason = z
  .strictObject({ reason: text(256, 'Why; kept with the policy and in the audit log.') })
  .meta({ id: 'PolicyReasonRequest' });

export const POLICY_ERRORS = [
  ...CHANGE_ERRORS,
  'precondition_required',
  'not_found',
  'version_not_usable',
] as const;

const path = '/v1/admin/keys/{key}/rotation-policy';
const change = {
  ...changeOf(keyParams),
  operation: 'keys.set-rotation',
  headers: headers({ 'if-match': requiredIfMatch }),
  response: keyResource,
} as const;

export const putRotationPolicy = defineRoute({
  ...change,
  method: 'PUT',
  id: 'putRotationPolicy',
  path,
  summary: 'Gives a key a policy of its own, which stands above those of its namespace.',
  body: z.strictObject(TERMS).meta({ id: 'RotationPolicyRequest' }),
  errors: [...POLICY_ERRORS, 'unknown_suite'],
});

export const deleteRotationPolicy = defineRoute({
  ...change,
  method: 'DELETE',
  id: 'deleteRotationPolicy',
  path,
  summary: 'Takes its own policy from a key; policies of the namespace apply again.',
  errors: POLICY_ERRORS,
});

/** Members after `count` are optional, so that an answer pinned before they were there is still one. */
export const schedulerFailure = z
  .object({
    code: z.string(),
    at: time.meta({ description: 'Of the last attempt.' }),
    count: z.int().meta({ description: 'Attempts in a row that failed.' }),
    action: z
      .string()
      .nullable()
      .optional()
      .meta({
        description:
          'What failed, such as `rotate`, `activate/<version>`, `retire/<version>`, `destroy-version/<version>` ' +
          'or `destroy-key`; null where the key could not be looked at.',
      }),
    detail: z.string().nullable().optional().meta({ description: 'In words.' }),
    since: time.optional().meta({ description: 'When the first of these attempts failed.' }),
    nextAttemptAt: time.nullable().optional().meta({
      description: 'When it is tried next; null: at once, or when something changes.',
    }),
  })
  .meta({ id: 'SchedulerFailure' });

const candidate = z.object({
  source: z.enum(['key', 'namespace']).meta({ description: 'Whose policy it is.' }),
  name: z.string().nullable().meta({ description: 'Of a policy of the namespace.' }),
  matchingLabels: z.int(),
  priority: z.int(),
  policy: rotationPolicy,
});

const plannedAction = z.object({
  action: z.string(),
  dueAt: time,
  version: z.int().nullable(),
});

const readKey = {
  plane: 'admin',
  method: 'GET',
  operation: 'keys.read',
  params: keyParams,
} as const;

export const getRotation = defineRoute({
  ...readKey,
  id: 'getRotation',
  path,
  summary: 'Which policy a key has in effect and why, what is due, and what comes next.',
  response: z
    .object({
      key: z.string(),
      keyId: uuid,
      effective: candidate
        .nullable()
        .meta({ description: 'Null: nothing rotates the key by age.' }),
      reason: z
        .enum(['own', 'only', 'more-labels', 'higher-priority', 'name'])
        .nullable()
        .meta({ description: 'What set it apart from the candidate after it.' }),
      paused: z
        .object({ by: z.enum(['policy', 'namespace', 'undo']), at: time, reason: z.string() })
        .nullable()
        .meta({
          description:
            'Why what the policy asks for waits; the limit of AES-GCM does not. `undo`: a rotation was ' +
            'undone (`rotationHold` of the key).',
        }),
      candidates: z.array(candidate).meta({ description: 'In the order in which they win.' }),
      nextAt: time.nullable().meta({ description: 'When anything is due next; it may be past.' }),
      due: z.array(plannedAction),
      // Optional, so that an answer pinned before it was there is still one.
      coming: z.array(plannedAction).optional().meta({
        description:
          'What is planned after now, as things stand: the earliest first, 20 at most. `notice`: it is announced.',
      }),
      late: z.boolean().meta({ description: 'Something has been due for more than an hour.' }),
      failure: schedulerFailure.nullable().meta({
        description: 'Why the last look of the scheduler could not do what is due.',
      }),
    })
    .meta({ id: 'KeyRotation' }),
  errors: ['key_not_found', 'integrity_failed'],
});

export const listRotations = defineRoute({
  ...readKey,
  id: 'listRotations',
  path: '/v1/admin/keys/{key}/rotations',
  summary:
    'What was done to a key because it was due or ordered, and its rotations by hand, oldest first.',
  query: z.strictObject(PAGING),
  response: page(
    z
      .object({
        action: z.string().meta({
          description:
            'Such as `rotate/<version before>`; `by-hand/<version>` of a version that a caller made, also ' +
            'in place of one that was compromised (who: in the audit log).',
        }),
        cause: z.string().nullable(),
        policyRevision: z.int(),
        version: z.int().nullable(),
        dueAt: time,
        doneAt: time,
      })
      .meta({ id: 'Rotation' }),
    'RotationPage',
  ),
  errors: ['key_not_found', 'integrity_failed'],
});

export const pauseRotationPolicy = defineRoute({
  ...change,
  ...changeOf(keyParams),
  method: 'POST',
  id: 'pauseRotationPolicy',
  path: `${path}/pause`,
  summary: 'Pauses what the policy of a key asks for; the limit of AES-GCM rotates all the same.',
  body: policyReason,
  errors: [...CHANGE_ERRORS, 'not_found', 'version_not_usable'],
});

export const resumeRotationPolicy = defineRoute({
  ...change,
  ...changeOf(keyParams),
  method: 'POST',
  id: 'resumeRotationPolicy',
  path: `${path}/resume`,
  summary:
    'Ends the pause of the key’s policy, and the hold that an undone rotation left on whichever policy it has; what is overdue runs once.',
  body: policyReason,
  errors: [...CHANGE_ERRORS, 'not_found', 'version_not_usable'],
});

// Policies of the namespace -------------------------------------------------------------------------

const policyParams = z.strictObject({ name: keyName });
export const selector = z
  .record(labelName, labelValue)
  .refine(
    (value) => Object.keys(value).length <= MAX_LABELS,
    `at most ${String(MAX_LABELS)} labels`,
  )
  .meta({ description: 'Labels that a key must all have; none selects every key.' });
const priority = z
  .int()
  .min(-1_000_000)
  .max(1_000_000)
  .meta({ description: 'Decides among policies with equally many matching labels.' });

const namespacePolicy = {
  namespace: z.string(),
  name: z.string(),
  selector: z.record(z.string(), z.string()),
  priority: z.int(),
  policy: rotationPolicy,
} as const;
const namespacePolicyResource = z.object(namespacePolicy).meta({ id: 'NamespacePolicy' });

const readPolicies = { plane: 'admin', operation: 'rotations.read' } as const;
const changePolicy = {
  ...changeOf(policyParams),
  operation: 'rotation-policies.change',
  response: z
    .object({
      ...namespacePolicy,
      deleted: z.literal(true).optional(),
      dryRun: z.literal(true).optional(),
      effects: policyEffects.optional(),
    })
    .meta({ id: 'ChangedNamespacePolicy' }),
} as const;
export const NAMESPACE_ERRORS = ['not_found', ...STORED_ERRORS] as const;

export const listRotationPolicies = defineRoute({
  ...readPolicies,
  method: 'GET',
  id: 'listRotationPolicies',
  path: '/v1/admin/rotation-policies',
  summary: 'Policies that the namespace gives to its keys, by name.',
  query: z.strictObject(PAGING),
  response: page(namespacePolicyResource, 'NamespacePolicyList'),
  errors: ['integrity_failed'],
});

export const getNamespacePolicy = defineRoute({
  ...readPolicies,
  method: 'GET',
  id: 'getNamespacePolicy',
  path: '/v1/admin/rotation-policies/{name}',
  summary: 'One policy of the namespace.',
  params: policyParams,
  response: namespacePolicyResource,
  errors: ['not_found', 'integrity_failed'],
});

export const putNamespacePolicy = defineRoute({
  ...changePolicy,
  method: 'PUT',
  id: 'putNamespacePolicy',
  path: '/v1/admin/rotation-policies/{name}',
  summary: 'Makes a policy of the namespace; with If-Match, changes the one of that name.',
  body: z
    .strictObject({
      selector,
      priority: priority.optional(),
      ...TERMS,
      policy: z.strictObject(TERMS).optional().meta({
        description: 'The terms as they are read, in place of members of the request itself.',
      }),
      namespace: z
        .string()
        .optional()
        .meta({ description: 'As it was read; the one of the request.' }),
      name: keyName.optional().meta({ description: 'As it was read; the one of the path.' }),
    })
    .refine(
      (body) => body.policy === undefined || Object.keys(TERMS).every((term) => !(term in body)),
      'has its terms in `policy` or beside it, not both',
    )
    .meta({ id: 'NamespacePolicyRequest' }),
  errors: [...NAMESPACE_ERRORS, 'precondition_required', 'quota_exceeded', 'unknown_suite'],
});

export const deleteNamespacePolicy = defineRoute({
  ...changePolicy,
  method: 'DELETE',
  id: 'deleteNamespacePolicy',
  path: '/v1/admin/rotation-policies/{name}',
  summary: 'Drops a policy of the namespace; no key changes by that.',
  headers: headers({ 'if-match': requiredIfMatch }),
  errors: [...NAMESPACE_ERRORS, 'precondition_required'],
});

export const pauseNamespacePolicy = defineRoute({
  ...changePolicy,
  method: 'POST',
  id: 'pauseNamespacePolicy',
  path: '/v1/admin/rotation-policies/{name}/pause',
  summary: 'Pauses what a policy of the namespace asks for.',
  body: policyReason,
  errors: NAMESPACE_ERRORS,
});

export const resumeNamespacePolicy = defineRoute({
  ...changePolicy,
  method: 'POST',
  id: 'resumeNamespacePolicy',
  path: '/v1/admin/rotation-policies/{name}/resume',
  summary: 'Ends the pause of a policy of the namespace.',
  body: policyReason,
  errors: NAMESPACE_ERRORS,
});
