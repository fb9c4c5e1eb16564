/**
 * The life of keys and versions after SP 800-57 part 1 section 7: activation, deactivation and
 * compromise of versions, times set in advance, and destruction, which is scheduled before it runs.
 */
import { z } from 'zod';

import { parseDuration } from '../duration.ts';
import { CHANGE_ERRORS, MATERIAL_ERRORS, changeOf } from './admin-keys.ts';
import { keyResource, versionResource } from './keys.ts';
import { defineRoute, keyParams, versionParams } from './route.ts';
import { comingTime, text } from './scalars.ts';

const reason = text(512, 'Why; kept with the state and in the audit log.');
const reasoned = z.strictObject({ reason }).meta({ id: 'VersionReasonRequest' });

const ofVersion = { ...changeOf(versionParams), response: versionResource } as const;
const ERRORS = [...CHANGE_ERRORS, 'version_not_found', 'version_not_usable'] as const;

export const activateVersion = defineRoute({
  ...ofVersion,
  method: 'POST',
  id: 'activateVersion',
  path: '/v1/admin/keys/{key}/versions/{version}/activate',
  operation: 'versions.activate',
  summary: 'Activates a pre-active version, which becomes the primary unless a later one is.',
  body: reasoned,
  errors: [...ERRORS, 'suite_unavailable_here'],
});

export const deactivateVersion = defineRoute({
  ...ofVersion,
  method: 'POST',
  id: 'deactivateVersion',
  path: '/v1/admin/keys/{key}/versions/{version}/deactivate',
  operation: 'versions.deactivate',
  summary: 'Ends what a version protects; it still opens and verifies. Not for the primary.',
  body: reasoned,
  errors: [...ERRORS, 'primary_protected'],
});

export const compromiseVersion = defineRoute({
  ...ofVersion,
  method: 'POST',
  id: 'compromiseVersion',
  path: '/v1/admin/keys/{key}/versions/{version}/compromise',
  operation: 'versions.compromise',
  summary: 'Ends every use of a version for good, the primary too, at once and everywhere.',
  body: z
    .strictObject({
      reason,
      replace: z
        .boolean()
        .optional()
        .meta({
          description:
            'Of the primary: makes a new version of its suite and makes it the primary in the same ' +
            'transaction. Without it the key protects nothing until it is rotated. Where none may be ' +
            'made now (the key is suspended, say), the version falls all the same: `replacementRefused`. ' +
            'The same request again makes it, once it can be made and while the key has no primary.',
        }),
    })
    .meta({ id: 'CompromiseRequest' }),
  response: versionResource
    .extend({
      replacement: z
        .object({ method: z.literal('POST'), path: z.string() })
        .optional()
        .meta({ description: 'What makes a new primary; present while the key has none.' }),
      replacementRefused: z.string().optional().meta({
        description: 'Error code of why the replacement that was asked for was not made.',
      }),
    })
    .meta({ id: 'CompromisedVersion' }),
  errors: [
    ...ERRORS,
    ...MATERIAL_ERRORS.filter((code) => !code.startsWith('idempotency')),
    'wrong_purpose',
  ],
});

const moment = comingTime.nullable().optional();

export const scheduleVersion = defineRoute({
  ...ofVersion,
  method: 'PUT',
  id: 'scheduleVersion',
  path: '/v1/admin/keys/{key}/versions/{version}/schedule',
  operation: 'versions.schedule',
  summary: 'Sets when a version activates or deactivates by itself; what is not named stays.',
  body: z
    .strictObject({
      activateAt: moment.meta({ description: 'Of a pre-active version; null: when it is told.' }),
      deactivateAt: moment.meta({
        description:
          'Of an active or suspended version, the primary too; null: when it is told. From then on ' +
          'it protects no more, and a primary leaves the key without one. That of a suspended ' +
          'version waits until it is resumed.',
      }),
    })
    .refine(
      (body) => body.activateAt !== undefined || body.deactivateAt !== undefined,
      'names no time',
    )
    .meta({ id: 'VersionScheduleRequest' }),
  errors: ERRORS,
});

const destruction = z
  .strictObject({
    at: comingTime.optional().meta({ description: 'When; not sooner than the least wait.' }),
    after: z
      .string()
      .max(24)
      .refine((value) => parseDuration(value) !== undefined, 'must be like P30D or PT36H')
      .optional()
      .meta({
        description:
          'Instead of `at`: ISO 8601 duration of days and hours from now. Neither: the default wait.',
      }),
    reason,
  })
  .refine(({ at, after }) => at === undefined || after === undefined, 'takes at or after, not both')
  .meta({ id: 'DestructionRequest' });

const DESTRUCTION_ERRORS = [
  ...CHANGE_ERRORS,
  'precondition_required',
  'version_not_usable',
] as const;

const ofKey = {
  ...changeOf(keyParams),
  path: '/v1/admin/keys/{key}/destruction',
  response: keyResource,
} as const;

const ofOneVersion = {
  ...ofVersion,
  path: '/v1/admin/keys/{key}/versions/{version}/destruction',
} as const;

export const putKeyDestruction = defineRoute({
  ...ofKey,
  method: 'PUT',
  id: 'putKeyDestruction',
  operation: 'keys.schedule-destruction',
  summary: 'Schedules the destruction of a key, which cannot be used from now on; needs If-Match.',
  body: destruction,
  errors: [...DESTRUCTION_ERRORS, 'deletion_protected'],
});

export const deleteKeyDestruction = defineRoute({
  ...ofKey,
  method: 'DELETE',
  id: 'deleteKeyDestruction',
  operation: 'keys.cancel-destruction',
  summary: 'Cancels the destruction of a key before it runs; needs If-Match.',
  errors: DESTRUCTION_ERRORS,
});

export const putVersionDestruction = defineRoute({
  ...ofOneVersion,
  method: 'PUT',
  id: 'putVersionDestruction',
  operation: 'versions.schedule-destruction',
  summary:
    'Schedules the destruction of a version that is not active, and ends its use; needs If-Match.',
  body: destruction,
  errors: [...DESTRUCTION_ERRORS, 'version_not_found', 'deletion_protected', 'primary_protected'],
});

export const deleteVersionDestruction = defineRoute({
  ...ofOneVersion,
  method: 'DELETE',
  id: 'deleteVersionDestruction',
  operation: 'versions.cancel-destruction',
  summary: 'Cancels the destruction of a version before it runs; needs If-Match.',
  errors: [...DESTRUCTION_ERRORS, 'version_not_found'],
});
