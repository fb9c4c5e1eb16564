/** Rate limits and quotas: what holds for who asks, and what a namespace sets. */
import { z } from 'zod';

import { STORED_ERRORS, changeOf } from './admin-keys.ts';
import { defineRoute } from './route.ts';
import { keyName, time } from './scalars.ts';

const MOST = 100_000_000;

const rate = z
  .strictObject({
    perMinute: z
      .int()
      .min(1)
      .max(MOST)
      .meta({ description: 'Requests in a minute; each item of a batch counts.' }),
    burst: z.int().min(1).max(MOST).optional().meta({
      description: "How many may come at once; ten seconds' worth unless told.",
    }),
  })
  .meta({ id: 'Rate' });

const classes = z
  .strictObject({
    use: rate.optional().meta({ description: 'Uses of keys, and reads of them.' }),
    admin: rate.optional().meta({ description: 'Requests under `/v1/admin`.' }),
  })
  .meta({ id: 'RateClasses' });

const count = z.int().min(0).max(MOST);

const uses = z
  .strictObject({
    perDay: count.optional().meta({ description: 'In a day (UTC).' }),
    perMonth: count.optional().meta({ description: 'In a month (UTC).' }),
  })
  .meta({
    id: 'UseQuota',
    description:
      'What policies know as `use`, reads not: each item of a batch or of a rewrap job one, each key that ' +
      'signs in parallel one, to begin a job one; of a key that data goes to as many as there are items. ' +
      'What an instance has leased when it ends by force counts as used.',
  });

const limits = {
  principal: classes.optional().meta({ description: 'Of each principal in the namespace.' }),
  namespace: classes.optional().meta({ description: 'Of all principals together.' }),
  key: classes.optional().meta({ description: 'Of each key.' }),
  keys: z
    .record(keyName, rate)
    .optional()
    .meta({ description: 'Uses of single keys by name, in place of `key.use`; 200 at most.' }),
  quotas: z
    .strictObject({
      keys: count.optional().meta({ description: 'Keys that are not destroyed.' }),
      versions: count.optional().meta({ description: 'Versions that are not destroyed.' }),
      principal: uses.optional().meta({ description: 'Uses of keys by each principal.' }),
      namespace: uses.optional().meta({ description: 'Uses of keys by all together.' }),
      key: uses.optional().meta({ description: 'Uses of each key.' }),
    })
    .optional(),
} as const;

const usage = z.object({ keys: z.int(), versions: z.int() }).meta({
  description: 'Of the namespace: what is not destroyed.',
});

const resource = {
  ...limits,
  updatedAt: time.nullable(),
  updatedBy: z.object({ issuer: z.string(), subject: z.string() }).nullable(),
  revision: z.int().meta({ description: 'For If-Match; 0 where nothing was set.' }),
} as const;

export const getLimits = defineRoute({
  plane: 'admin',
  operation: 'limits.read',
  method: 'GET',
  id: 'getLimits',
  path: '/v1/admin/limits',
  summary: 'Limits and quotas that the namespace has set, and how much of the quotas is used.',
  response: z.object({ ...resource, used: usage }).meta({ id: 'NamespaceLimits' }),
  errors: ['integrity_failed'],
});

export const putLimits = defineRoute({
  ...changeOf(z.strictObject({})),
  operation: 'limits.change',
  method: 'PUT',
  id: 'putLimits',
  path: '/v1/admin/limits',
  summary: 'Sets the limits and quotas of the namespace, in place of all that were set before.',
  body: z.strictObject(limits).meta({ id: 'LimitsRequest' }),
  response: z
    .object({ ...resource, dryRun: z.literal(true).optional() })
    .meta({ id: 'ChangedLimits' }),
  errors: [...STORED_ERRORS, 'precondition_required'],
});

const quota = z
  .object({ limit: z.int().nullable().meta({ description: 'Null: any number.' }), used: z.int() })
  .meta({ id: 'QuotaUse' });

export const ownLimits = defineRoute({
  plane: 'use',
  operation: 'whoami',
  method: 'GET',
  id: 'ownLimits',
  path: '/v1/limits',
  summary: 'Rate limits that hold for the caller here, quotas, and about what is left of them.',
  response: z
    .object({
      items: z
        .array(
          z.object({
            name: z.string(),
            perMinute: z.int(),
            burst: z.int(),
            remaining: z.int().meta({ description: 'As far as this instance knows.' }),
          }),
        )
        .meta({
          description:
            '`service.…` are of the configuration, `principal.…`, `namespace.…` of the namespace, and ' +
            '`policy.<name>` of a policy that can admit the caller, where its conditions hold.',
        }),
      periods: z
        .array(
          z.object({
            name: z.string(),
            limit: z.int(),
            remaining: z.int().meta({ description: 'As far as this instance knows.' }),
            resetsAt: time,
          }),
        )
        .optional()
        .meta({
          description:
            'Quotas of a day or month: `quota.service.…` of the configuration, `quota.policy.…` of ' +
            'policies, else of the namespace; those of single keys stand in answers about them.',
        }),
      quotas: z
        .object({ keys: quota, versions: quota })
        .nullable()
        .meta({ description: 'Of the namespace; null for who may not list its keys.' }),
    })
    .meta({ id: 'OwnLimits' }),
  errors: [],
});
