/** What recorded decisions would have been under changed policies. */
import { z } from 'zod';

import { PAGING } from './answer.ts';
import { moment } from './audit.ts';
import { policyTerms } from './policies.ts';
import { defineRoute } from './route.ts';
import { keyName, time } from './scalars.ts';

const change = z
  .strictObject({ name: keyName, ...policyTerms })
  .refine(
    ({ cedar, template }) => cedar === undefined || template === undefined,
    'has cedar or template, not both',
  )
  .meta({ description: 'Without `cedar` and `template` the policy is taken away.' });

const outcome = z.enum(['allowed', 'denied', 'undetermined']);
const difference = z
  .object({
    principal: z.object({ issuer: z.string(), subject: z.string() }),
    operation: z.string(),
    key: z.string().nullable().meta({ description: 'As the requests named it.' }),
    before: outcome.meta({ description: '`undetermined` where an entry can be read in two ways.' }),
    after: outcome.meta({ description: '`undetermined` where it depends on what no entry has.' }),
    policies: z.array(z.string()).meta({ description: 'Those that decided.' }),
    count: z.int(),
    firstAt: time,
    lastAt: time,
    exampleEntry: z.string().meta({ description: 'Id of the newest of the entries.' }),
  })
  .meta({ id: 'PolicyReplayDifference' });

export const replayPolicies = defineRoute({
  plane: 'use',
  operation: 'audit.read',
  method: 'POST',
  id: 'replayPolicies',
  path: '/v1/audit/policy-replays',
  summary:
    'Which recorded decisions changed policies would have made otherwise. Also needs `policies.read`.',
  body: z
    .strictObject({
      changes: z.array(change).max(100),
      from: moment('Decisions at this time or later; a day ago unless told.'),
      until: moment('Decisions before this time.'),
      pageSize: z
        .int()
        .min(1)
        .max(2000)
        .optional()
        .meta({ description: 'Entries that are looked at; 1000 unless told.' }),
      pageToken: PAGING.pageToken,
    })
    .meta({ id: 'PolicyReplayRequest' }),
  response: z
    .object({
      setRevision: z.int().meta({ description: 'Of the policies that were changed.' }),
      looked: z.int().meta({ description: 'Entries that this page looked at.' }),
      same: z.int().meta({ description: 'Of those, decisions that stay as they were.' }),
      others: z.int().meta({ description: 'Of those, entries that no stored policy decided.' }),
      items: z.array(difference),
      nextPageToken: z
        .string()
        .nullable()
        .meta({ description: 'For the entries before these; counts are of one page.' }),
    })
    .meta({ id: 'PolicyReplay' }),
  errors: ['not_found', 'policy_invalid', 'integrity_failed'],
});
