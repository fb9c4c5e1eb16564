/** Rotation policies as they are shown. */
import { z } from 'zod';

import { suiteId, time } from './scalars.ts';

export const duration = z.string().meta({
  description: 'ISO 8601 duration such as `P90D`; years and months by the UTC calendar.',
});

/** What a notice of a policy is. */
export const NOTICE =
  'How long before a rotation by age or upgrade, a deactivation or a destruction its event is sent ' +
  '(`key.rotation-due`, `key.expiring`, `key.destruction-due`). A version is retired no sooner than so ' +
  'long after `version.retirement-due`, which each revision of the policy sends anew; without a notice ' +
  'it is retired at once.';

export const rotationPolicy = z
  .object({
    interval: duration.nullable().meta({ description: 'Longest age of a primary version.' }),
    maxUses: z.int().nullable().meta({ description: 'Protecting uses of a primary version.' }),
    upgrade: z
      .object({ suite: suiteId, notBefore: time })
      .nullable()
      .meta({ description: 'The suite to rotate to at a date.' }),
    retire: z
      .object({ keepVersions: z.int().nullable(), after: duration.nullable() })
      .nullable()
      .meta({ description: 'When superseded versions are deactivated and closed.' }),
    notice: duration.nullable().meta({ description: NOTICE }),
    paused: z.object({ at: time, reason: z.string() }).nullable(),
    revision: z.int(),
  })
  .meta({ id: 'RotationPolicy' });
