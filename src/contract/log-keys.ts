/** Keys that sign the log's checkpoints, and the checkpoint that anybody may read. */
import { z } from 'zod';

import { STORED_ERRORS, dryRunQuery } from './admin-keys.ts';
import { defineRoute } from './route.ts';
import { text, time, uuid } from './scalars.ts';

const vkey = z.string().meta({ description: 'C2SP verifier key: `<name>+<id>+<base64>`.' });

const logKey = z
  .object({
    id: uuid,
    vkey,
    kind: z.enum(['ed25519', 'ml-dsa-44']),
    zone: z.string(),
    state: z.enum(['pending', 'active', 'retiring', 'retired']).meta({
      description:
        '`pending`: announced, and not in the tree yet; `retiring`: signs no more, and the log does not say so yet.',
    }),
    custody: z
      .enum(['hsm-token', 'sealed'])
      .nullable()
      .meta({ description: 'Where its private half is; null once it is gone.' }),
    announcedBy: z.string().nullable().meta({ description: 'Id of the entry that announces it.' }),
    pinned: z.boolean().meta({
      description: 'No key that was trusted before announces it: whoever verifies pins it.',
    }),
    createdAt: time,
    activatedAt: time.nullable(),
    retiredAt: time.nullable(),
  })
  .meta({ id: 'LogKey' });

export const listLogKeys = defineRoute({
  method: 'GET',
  plane: 'use',
  id: 'listLogKeys',
  path: '/v1/audit/keys',
  operation: 'audit.log',
  summary: 'Every key that ever signed checkpoints, to be pinned; by time of making.',
  response: z
    .object({
      origin: z.string().meta({ description: 'Name of the log and of all its keys.' }),
      keys: z.array(logKey),
      witness: z
        .array(vkey)
        .meta({ description: 'Keys of this very process as a witness of other logs.' }),
    })
    .meta({ id: 'LogKeyList' }),
  errors: ['not_found', 'integrity_failed'],
});

export const rotateLogKeys = defineRoute({
  method: 'POST',
  plane: 'admin',
  id: 'rotateLogKeys',
  path: '/v1/admin/audit/checkpoint-keys/rotate',
  operation: 'audit.keys.rotate',
  summary: "Makes the pair of keys that follows this zone's; the log announces it before it signs.",
  query: dryRunQuery,
  body: z
    .strictObject({
      reason: text(512, 'Why; kept in the audit log.'),
      lost: z.boolean().optional().meta({
        description:
          'The keys in force are lost: the new ones sign at once, announced by nobody, and everyone who verifies has to pin them.',
      }),
    })
    .meta({ id: 'LogKeyRotation' }),
  response: z
    .object({
      keys: z.array(logKey).meta({ description: 'Those that were made; none in a dry run.' }),
      dryRun: z.literal(true).optional(),
    })
    .meta({ id: 'RotatedLogKeys' }),
  errors: [...STORED_ERRORS, 'not_found', 'hsm_unavailable', 'hsm_busy', 'hsm_full'],
});

export const publicCheckpoint = defineRoute({
  method: 'GET',
  plane: 'public',
  id: 'publicCheckpoint',
  path: '/public/log/checkpoint',
  operation: null,
  summary:
    'The newest checkpoint for monitors, with what witnesses said of it; where it is switched on.',
  gives: ['text/plain'],
  response: z.string(),
  errors: ['not_found'],
});
