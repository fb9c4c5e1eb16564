/** What the scheduler does in a whole namespace: what failed, what is late, what was done, and its pause. */
import { z } from 'zod';

import { changeOf } from './admin-keys.ts';
import { PAGING, page } from './answer.ts';
import { policyEffects } from './policy-effects.ts';
import { defineRoute } from './route.ts';
import { NAMESPACE_ERRORS, policyReason, schedulerFailure } from './rotation.ts';
import { time, uuid } from './scalars.ts';

const path = '/v1/admin/rotations';

export const listNamespaceRotations = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'listNamespaceRotations',
  path,
  operation: 'rotations.read',
  summary:
    'Keys of which something fails or is late, the longest first; or what was done, newest first.',
  query: z.strictObject({
    ...PAGING,
    state: z.enum(['failing', 'late', 'done']).meta({
      description:
        '`failing`: the last attempt failed; `late`: due for more than an hour; `done`: done because it was due or ordered.',
    }),
  }),
  response: page(
    z
      .object({
        key: z.string(),
        keyId: uuid,
        state: z.enum(['failing', 'late', 'done']),
        since: time.meta({ description: 'When it failed first in a row, was due, or was done.' }),
        failure: schedulerFailure.nullable().meta({ description: 'Of the last attempt.' }),
        nextAt: time.nullable().meta({ description: 'When it is tried next; null: at once.' }),
        run: z
          .object({
            action: z.string().meta({ description: 'Such as `rotate/<version before>`.' }),
            cause: z.string().nullable(),
            policyRevision: z.int(),
            version: z.int().nullable(),
            dueAt: time,
            doneAt: time,
          })
          .nullable()
          .meta({ description: 'What was done; null for what was not.' }),
      })
      .meta({ id: 'NamespaceRotation' }),
    'NamespaceRotationPage',
  ),
  errors: [],
});

const pause = z
  .object({
    namespace: z.string(),
    paused: z
      .object({ at: time, reason: z.string() })
      .nullable()
      .meta({ description: 'Null while rotations run.' }),
    revision: z.int().meta({ description: 'Of the policies of the namespace.' }),
    dryRun: z.literal(true).optional(),
    effects: policyEffects.optional(),
  })
  .meta({ id: 'RotationPause' });

const changePause = {
  ...changeOf(z.strictObject({})),
  operation: 'rotation-policies.change',
  method: 'POST',
  body: policyReason,
  response: pause,
  errors: NAMESPACE_ERRORS,
} as const;

export const getRotationPause = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'getRotationPause',
  path: `${path}/pause`,
  operation: 'rotations.read',
  summary: 'Whether what policies ask for is paused in the whole namespace.',
  response: pause,
  errors: ['integrity_failed'],
});

export const pauseRotations = defineRoute({
  ...changePause,
  id: 'pauseRotations',
  path: `${path}/pause`,
  summary:
    'Pauses what policies ask for in the whole namespace; orders, which somebody gives by hand, are still carried out, and the limit of AES-GCM rotates all the same.',
});

export const resumeRotations = defineRoute({
  ...changePause,
  id: 'resumeRotations',
  path: `${path}/resume`,
  summary: 'Ends the pause of the namespace; what is overdue runs once.',
});
