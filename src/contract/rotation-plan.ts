/** The plan of rotations: what will rotate when, and what that takes. */
import { z } from 'zod';

import { PAGING } from './answer.ts';
import { defineRoute } from './route.ts';
import { suiteId, time, uuid } from './scalars.ts';

/** Days of a plan whose query does not say. */
export const DEFAULT_PLAN_DAYS = 90;
const LONGEST_PLAN_DAYS = 3_650;

const ms = (description: string) => z.number().meta({ description });
const amounts = {
  rotations: z.int(),
  bytes: z.int().meta({ description: 'What the new versions add to the database, estimated.' }),
  hsmMs: ms('Time of the HSM, from what one version took.'),
  cpuMs: ms('The same of a processor: the post-quantum halves.'),
} as const;

const measured = z
  .object({
    versions: z
      .int()
      .meta({ description: 'Made by this process or tried by it; the times are their means.' }),
    hsmMs: z.number(),
    cpuMs: z.number(),
  })
  .nullable()
  .meta({
    description:
      'What one version took. Null: none was made here, and none can be tried (RSA, or keys that ' +
      'live on the token alone); its rotations count no time.',
  });

const planSuite = z
  .object({
    suite: suiteId,
    ...amounts,
    bytesPerVersion: z.int(),
    measured,
  })
  .meta({ id: 'RotationPlanSuite' });

const planDay = z
  .object({
    from: time,
    ...amounts,
    suites: z.array(z.object({ suite: suiteId, rotations: z.int() })),
  })
  .meta({ id: 'RotationPlanDay' });

const warning = z
  .object({
    kind: z.enum(['per-minute', 'storage', 'hsm-time', 'upgrade', 'suite', 'clock']).meta({
      description:
        '`per-minute`: more is due than `rotation.perMinute` allows, so that rotations are late; ' +
        '`storage`: more than `rotation.storageBytes` is added; `hsm-time`: a day needs more of the ' +
        'HSM than `rotation.hsmSecondsPerDay`; `upgrade`: policies upgrade keys to a suite that cannot be ' +
        'made here, so that these keep their own; `suite`: rotations need one that cannot be made, and fail; ' +
        '`clock`: the last rotation of keys is dated later than now, by a clock that ran ahead (or this one ' +
        'lags), so that they are due by age years too late: rotate them by hand.',
    }),
    from: time.meta({
      description:
        'The first minute, or day, in which the budget is broken or the suite is needed; of an upgrade its date; ' +
        'of `clock` the earliest of those dates, and `worstAt` the latest.',
    }),
    suite: suiteId.optional(),
    keys: z.int().optional().meta({ description: 'That are not upgraded, or are dated ahead.' }),
    rotations: z.int().optional().meta({ description: 'From that day on.' }),
    detail: z.string().optional().meta({ description: 'Why the suite cannot be made.' }),
    lateMinutes: z
      .int()
      .optional()
      .meta({ description: 'By how much the last are late at worst.' }),
    worstAt: time.optional(),
    bytes: z.int().optional().meta({ description: 'Added by the end of that day.' }),
    hsmMs: z.number().optional().meta({ description: 'Of that day.' }),
  })
  .meta({ id: 'RotationPlanWarning' });

const item = z
  .object({
    key: z.string(),
    keyId: uuid,
    dueAt: time.meta({
      description:
        'It may be past. Of the causes `uses` and `gcm-limit`, which are due now, the activation of the primary.',
    }),
    cause: z.enum(['interval', 'uses', 'upgrade', 'gcm-limit']),
    suite: suiteId,
    newSuite: suiteId,
    policyRevision: z.int(),
  })
  .meta({ id: 'PlannedRotation' });

export const getRotationPlan = defineRoute({
  plane: 'admin',
  method: 'GET',
  operation: 'rotations.read',
  id: 'getRotationPlan',
  path: '/v1/admin/rotation-plan',
  summary: 'What will rotate over the next days, what that takes, and which budgets it breaks.',
  query: z.strictObject({
    days: z
      .string()
      .regex(/^[1-9][0-9]{0,3}$/, `must be 1 to ${String(LONGEST_PLAN_DAYS)}`)
      .transform(Number)
      .pipe(z.int().max(LONGEST_PLAN_DAYS))
      .optional()
      .meta({
        description: `1 to ${String(LONGEST_PLAN_DAYS)}; ${String(DEFAULT_PLAN_DAYS)} when absent.`,
        override: { type: 'integer' },
      }),
    ...PAGING,
  }),
  response: z
    .object({
      from: time,
      until: time,
      keys: z.int().meta({ description: 'Of the namespace, neither destroyed nor going to be.' }),
      paused: z
        .object({ at: time, reason: z.string() })
        .nullable()
        .meta({
          description:
            'Of the whole namespace: until it is resumed, the limit of AES-GCM and orders alone rotate keys, ' +
            'and those that policies would rotate are counted in `waiting.paused`.',
        }),
      unplanned: z.int().meta({ description: 'Keys that nothing rotates.' }),
      byUseAlone: z.int().meta({
        description: 'Keys that only their uses rotate, which are not due: nobody knows when.',
      }),
      ending: z.object({ count: z.int(), first: time.nullable() }).meta({
        description:
          'Keys whose primary is deactivated, as was set in advance, before another version takes ' +
          'its place: from then on they protect nothing. `first` is the earliest.',
      }),
      retirements: z.object({ count: z.int(), due: z.int() }).meta({
        description:
          'Versions that policies close until the end of the plan, and how many of them at once. ' +
          'Suspended versions are not counted. Under a policy with a notice those whose time has come ' +
          'count when it has passed from now on, be they announced already or not.',
      }),
      waiting: z
        .object({ paused: z.int(), held: z.int(), suspended: z.int(), withoutPrimary: z.int() })
        .meta({
          description:
            'Keys that are not rotated while they are so; `held`: a rotation of theirs was undone, ' +
            'and their policy waits for an operator.',
        }),
      late: z.object({
        count: z.int().meta({ description: 'Due for more than an hour.' }),
        oldest: time.nullable(),
        byUse: z.int().meta({ description: 'Due by their uses; since when is not known.' }),
      }),
      total: z.object(amounts),
      suites: z.array(planSuite),
      days: z
        .array(planDay)
        .meta({ description: '24 hours each; those without a rotation are left out.' }),
      peakMinute: z.object({ at: time, rotations: z.int() }),
      budgets: z.object({
        perMinute: z.int().nullable(),
        storageBytes: z.int().nullable(),
        hsmMsPerDay: z.int().nullable(),
      }),
      warnings: z.array(warning),
      items: z.array(item).meta({
        description: 'The next rotation of each key, in the order in which they are due.',
      }),
      nextPageToken: z.string().nullable().meta({
        description:
          'Give it as `pageToken` with the same `days`; null at the end. Each page reads all keys.',
      }),
    })
    .meta({ id: 'RotationPlan' }),
  errors: ['not_found', 'integrity_failed'],
});
