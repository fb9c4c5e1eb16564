/** Rotation policies as they are shown. */
import { z } from 'zod';

import { suiteId, time } from './scalars.ts';

export const duration = z.string().meta({
  description: 'ISO 8601 duration such as `P90D`; years and months by the UTC calendar.',
});

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
    notice: duration.nullable().meta({ description: 'How long before a change notice is given.' }),
    paused: z.object({ at: time, reason: z.string() }).nullable(),
    revision: z.int(),
  })
  .meta({ id: 'RotationPolicy' });
