/** What a dry run says that a change of rotation policies would do. */
import { z } from 'zod';

import { keyVersion, suiteId, time, uuid } from './scalars.ts';

const uses = z.object({ uses: z.int(), lastAt: time.nullable() });
const policyName = z.string().nullable().meta({ description: 'Null: none.' });

export const policyEffects = z
  .object({
    keys: z.object({
      examined: z.int(),
      complete: z.boolean().meta({
        description:
          'Otherwise all counts are lower bounds: of the first so many keys by name, of those that have ' +
          'the rarest label which the selector asks for before and after the change.',
      }),
      selected: z
        .int()
        .meta({ description: 'Keys that the policy selects; of the pause of a namespace all.' }),
      governed: z.int().meta({
        description:
          'Keys of which it is the policy in effect, of a policy that is dropped until now; of the pause ' +
          'of a namespace those that have any policy. Others stand above it for the rest of those selected.',
      }),
    }),
    moved: z
      .array(z.object({ from: policyName, to: policyName, keys: z.int() }))
      .meta({ description: 'Keys that another policy governs afterwards, by both.' }),
    rotations: z.object({
      atOnce: z.int().meta({ description: 'Due at once, and not without the change.' }),
      held: z.int().meta({ description: 'Due now, and no more with the change.' }),
      minutes: z.int().meta({ description: 'What `rotation.perMinute` needs for those at once.' }),
    }),
    retirements: z.object({
      atOnce: z.int().meta({ description: 'Versions that would be closed at once.' }),
      announced: z.int().meta({
        description: 'Versions that would be announced at once, and closed after the notice.',
      }),
      from: time.nullable().meta({ description: 'When the first of those announced closes.' }),
      keys: z.int().meta({ description: 'Of which these versions are.' }),
      protect: uses,
      process: uses,
      summed: z.boolean().meta({
        description:
          'Whether `protect` and `process` are of all of them. Of each version those 500 count that used it last.',
      }),
      recent: z
        .array(
          z.object({
            key: z.string(),
            keyId: uuid,
            versions: z.int(),
            protect: uses,
            process: uses,
          }),
        )
        .meta({ description: 'Keys whose closing versions were used last, at most 20.' }),
    }),
  })
  .meta({
    id: 'PolicyEffects',
    description:
      'Of a dry run: what would be due, and would not be without the change. Rotations by age, upgrade and ' +
      'use, and what they push out, are in it; what comes later is in the plan.',
  });

export const keyPolicyEffects = z
  .object({
    rotates: z
      .object({ cause: z.string(), suite: suiteId })
      .nullable()
      .meta({ description: 'The rotation that would be due at once, and is not now.' }),
    holds: z.boolean().meta({ description: 'Whether a rotation is due now that would wait.' }),
    closes: z
      .array(
        z.object({
          version: keyVersion,
          at: time.meta({ description: 'Not before.' }),
          announced: z.boolean().meta({ description: 'Whether notice is given first, at once.' }),
        }),
      )
      .meta({ description: 'Versions that would be closed; `uses.users` names who used them.' }),
    nextAt: time.nullable().meta({ description: 'When anything of the key is due next.' }),
  })
  .meta({ id: 'KeyPolicyEffects' });
