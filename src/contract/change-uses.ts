/** How much a version was used, as reports and dry runs show it. */
import { z } from 'zod';

import { keyVersion, time } from './scalars.ts';

export const count = (description: string) => z.int().min(0).meta({ description });

export const COUNTED = {
  protectUses: count(
    'Wraps, data keys, encapsulations, signatures, MACs. What is made elsewhere with the public key is not seen.',
  ),
  processUses: count(
    'Unwraps, rewraps from it, decapsulations, verifications (also of what was not valid).',
  ),
  lastProtectedAt: time.nullable(),
  lastProcessedAt: time.nullable(),
  countedSince: time.meta({
    description:
      'Since when uses are counted: the creation of the version, unless that came before.',
  }),
  silentSince: time.meta({
    description: 'The last use of either kind; `countedSince` when there was none.',
  }),
} as const;

export const versionUser = z
  .object({
    usage: z.enum(['protect', 'process']),
    principal: z
      .object({ issuer: z.string(), subject: z.string() })
      .nullable()
      .meta({ description: 'Null: everyone beyond those that an instance tells apart, as one.' }),
    uses: z.int().min(1),
    firstAt: time,
    lastAt: time,
  })
  .meta({ id: 'VersionUser' });

/** What the dry run of a change can say of the uses of the versions that it is about. */
export const changeUses = z
  .object({
    versions: z.array(z.object({ version: keyVersion, ...COUNTED })),
    users: z.array(versionUser).meta({
      description:
        'Who used the versions that the change is about, the 20 most recent first, each with the sums ' +
        'over them: the named version; those that `minUsableVersion` closes or opens; the old and the ' +
        'new primary (also where a version is activated over another); else all of the key.',
    }),
    from: z
      .object({ key: z.string(), users: z.array(versionUser) })
      .optional()
      .meta({
        description:
          'Of an alias that moves: the key that loses it, with the 20 most recent users of any of its ' +
          'versions (uses are counted by key, whichever name they came by).',
      }),
  })
  .meta({ id: 'ChangeUses' });
