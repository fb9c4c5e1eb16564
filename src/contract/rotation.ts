/** Rotation policies of keys: what rotates by itself, and when. */
import { z } from 'zod';

import { CHANGE_ERRORS, changeOf, requiredIfMatch } from './admin-keys.ts';
import { keyResource } from './keys.ts';
import { duration } from './rotation-policy.ts';
import { defineRoute, headers, keyParams } from './route.ts';
import { suiteId, text, time } from './scalars.ts';

const given = duration.max(64);
const notBefore = time
  .refine((value) => z.iso.datetime().safeParse(value).success, 'must be RFC 3339 in UTC')
  .transform((value) => new Date(value));

/** What a client states of a policy; what is absent is not asked for. */
export const TERMS = {
  interval: given.optional().meta({ description: 'Longest age of a primary version.' }),
  maxUses: z.int().min(1).optional().meta({
    description: 'Protecting uses of a primary version; blocks reserved by instances count whole.',
  }),
  upgrade: z
    .strictObject({
      suite: suiteId,
      notBefore: notBefore.meta({ override: { type: 'string', format: 'date-time' } }),
    })
    .optional()
    .meta({ description: 'The suite to rotate to, once, at a date.' }),
  retire: z
    .strictObject({
      keepVersions: z.int().min(1).max(100_000).optional(),
      after: given.optional(),
    })
    .optional()
    .meta({
      description: 'When superseded versions are deactivated and closed; none is destroyed.',
    }),
  notice: given.optional().meta({ description: 'How long before a change notice is given.' }),
} as const;

export const policyReason = z
  .strictObject({ reason: text(256, 'Why; kept with the policy and in the audit log.') })
  .meta({ id: 'PolicyReasonRequest' });

export const POLICY_ERRORS = [...CHANGE_ERRORS, 'precondition_required', 'not_found'] as const;

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

export const pauseRotationPolicy = defineRoute({
  ...change,
  ...changeOf(keyParams),
  method: 'POST',
  id: 'pauseRotationPolicy',
  path: `${path}/pause`,
  summary: 'Pauses what the policy of a key asks for; the limit of AES-GCM rotates all the same.',
  body: policyReason,
  errors: [...CHANGE_ERRORS, 'not_found'],
});

export const resumeRotationPolicy = defineRoute({
  ...change,
  ...changeOf(keyParams),
  method: 'POST',
  id: 'resumeRotationPolicy',
  path: `${path}/resume`,
  summary: 'Ends the pause; what is overdue runs once.',
  body: policyReason,
  errors: [...CHANGE_ERRORS, 'not_found'],
});
