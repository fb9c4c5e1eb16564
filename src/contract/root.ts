/** The root: its generations, and the rotation from one to the next. */
import { z } from 'zod';

import { dryRunQuery, idempotencyKey } from './admin-keys.ts';
import { PAGING, page } from './answer.ts';
import { changedOperation, operation, operationParams } from './operations.ts';
import { defineRoute, headers } from './route.ts';
import { text, uuid } from './scalars.ts';

const generation = z.int().min(1).max(2_147_483_647);

const generationResource = z
  .object({
    generation,
    state: z.enum(['intended', 'complete', 'in-force', 'retiring', 'retired']).meta({
      description:
        '`intended`: its ceremony has not ended; `complete`: it can be rotated to; `in-force`: new ' +
        'material is made under it; `retiring`: a later one is in force; `retired`: nothing is under it.',
    }),
    references: z
      .record(z.string(), z.int())
      .meta({ description: 'How many rows have something under it, by what it is.' }),
    missingFrom: z
      .array(z.object({ instance: uuid, zone: z.string() }))
      .meta({ description: 'Instances that live and have not opened it.' }),
  })
  .meta({ id: 'RootGeneration' });

export const getRoot = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'getRoot',
  path: '/v1/admin/root',
  operation: 'root.read',
  summary: 'The generations of the root, and what is under each; in the root namespace alone.',
  response: z
    .object({
      installation: uuid,
      inForce: generation.meta({ description: 'Under which new material is made.' }),
      generations: z.array(generationResource),
    })
    .meta({ id: 'RootFacts' }),
  errors: ['integrity_failed'],
});

export const rotateRoot = defineRoute({
  method: 'POST',
  plane: 'admin',
  id: 'rotateRoot',
  path: '/v1/admin/root/rotations',
  operation: 'root.rotate',
  summary: 'Begins to move everything to the newest generation of the root.',
  query: dryRunQuery,
  headers: headers({ 'idempotency-key': idempotencyKey }),
  body: z
    .strictObject({
      generation: generation.optional().meta({
        description: 'Must be the newest, so that no other is meant; it is when absent.',
      }),
      withoutZones: z
        .array(text(63, 'Name of a zone.'))
        .max(64)
        .optional()
        .meta({
          description:
            'Other zones that are given up. Without it, it begins only once an instance of each of `zone.others` ' +
            'has opened the generation: what moves is lost to a zone that lacks it.',
        }),
      reason: text(512, 'Why; kept with the rotation and in the audit log.'),
    })
    .meta({ id: 'RotateRootRequest' }),
  // 202 would say that it waits for an approval.
  status: 201,
  also: { 200: 'With `dryRun=true`: what would begin, and for how many rows.' },
  response: changedOperation,
  errors: [
    'conflict',
    'not_found',
    'idempotency_mismatch',
    'idempotency_in_progress',
    'integrity_failed',
    'read_only_grace',
    'storage_full',
  ],
});

export const listRootRotations = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'listRootRotations',
  path: '/v1/admin/root/rotations',
  operation: 'root.read',
  summary: 'Rotations of the root, the newest first.',
  query: z.strictObject(PAGING),
  response: page(operation, 'RootRotationPage'),
  errors: ['integrity_failed'],
});

export const getRootRotation = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'getRootRotation',
  path: '/v1/admin/root/rotations/{id}',
  operation: 'root.read',
  summary: 'How far a rotation of the root is.',
  params: operationParams,
  response: operation,
  errors: ['not_found', 'integrity_failed'],
});
