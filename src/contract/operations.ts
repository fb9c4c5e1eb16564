/**
 * Operations: work that outlasts one request, as a resource that says how far it is; and rewrap jobs,
 * the operations by which a client moves its ciphertexts to another version or key.
 */
import { z } from 'zod';

import { dryRunQuery, idempotencyKey } from './admin-keys.ts';
import { PAGING, page } from './answer.ts';
import { ECHOED_REF, REF } from './batch.ts';
import { itemError } from './problem.ts';
import { KEY_ERRORS, defineRoute, headers, keyParams } from './route.ts';
import { keyReference, suiteId, text, time, uuid } from './scalars.ts';
import { rewrapAnswer, rewrapItem } from './wrap.ts';

const count = (description: string) => z.int().min(0).meta({ description });

const progress = z
  .object({
    offset: count('Items that are done; the offset of the next one.'),
    total: z.int().nullable().meta({ description: 'Items there will be; null where unknown.' }),
    succeeded: count('Items that were moved, keys that were rotated.').optional(),
    unchanged: count(
      'Items that were where they shall go, keys that no longer belonged.',
    ).optional(),
    matched: count('Of an order: keys that were found to belong to it so far.').optional(),
    failed: count('Items that failed; each had its error.').optional(),
  })
  .meta({ id: 'OperationProgress' });

const state = z.enum(['running', 'succeeded', 'failed', 'cancelled', 'expired']).meta({
  description: '`expired`: it was running and silent until `expiresAt`.',
});
const kind = z.enum(['rewrap', 'rotation', 'root-rotation']);

const operationMembers = {
  id: uuid,
  kind,
  namespace: z.string(),
  key: z.string().nullable().meta({ description: 'Name of the key that it is about.' }),
  keyId: uuid.nullable(),
  to: z
    .object({ key: z.string(), keyId: uuid })
    .nullable()
    .meta({ description: 'Of a rewrap: the key whose primary version the items go to.' }),
  rotation: z
    .object({
      labels: z
        .record(z.string(), z.string())
        .nullable()
        .meta({ description: 'That the keys must all have; null: all keys of the namespace.' }),
      suite: suiteId.nullable().meta({ description: "Null: that of each key's primary." }),
    })
    .nullable()
    .meta({ description: 'Of an order of rotations: what was ordered.' }),
  root: z
    .object({
      generation: z.int().meta({ description: 'That everything goes to.' }),
      versions: count('Versions that have been moved.'),
      halves: count('Halves and secrets of versions that have been moved.'),
    })
    .nullable()
    .meta({ description: 'Of a rotation of the root.' }),
  itemsPerSecond: z
    .int()
    .nullable()
    .meta({ description: 'Null for an order, which the rotations a minute of the service bound.' }),
  note: z.string().nullable(),
  createdBy: z.object({ issuer: z.string(), subject: z.string() }),
  state,
  reason: z.string().nullable().meta({ description: 'Why it was cancelled or failed.' }),
  progress,
  createdAt: time,
  updatedAt: time,
  expiresAt: time.meta({
    description: 'When a running operation ends unless something is done; 30 days of silence.',
  }),
} as const;

export const operation = z.object(operationMembers).meta({ id: 'Operation' });
export const changedOperation = z
  .object({ ...operationMembers, dryRun: z.literal(true).optional() })
  .meta({ id: 'ChangedOperation' });

export const operationParams = z.strictObject({
  id: z.string().meta({ description: 'UUID of the operation.' }),
});

const STORED = ['integrity_failed', 'not_found'] as const;
const ENDING = [...STORED, 'operation_ended', 'storage_full', 'read_only_grace'] as const;

export const createRewrapJob = defineRoute({
  method: 'POST',
  plane: 'admin',
  id: 'createRewrapJob',
  path: '/v1/admin/keys/{key}/rewrap-jobs',
  operation: 'rewrap-jobs.create',
  summary: 'Begins to move ciphertexts of a key to its primary version, or to another key.',
  params: keyParams,
  query: dryRunQuery,
  headers: headers({ 'idempotency-key': idempotencyKey }),
  body: z
    .strictObject({
      to: keyReference.optional().meta({
        description:
          'Key to rewrap to; takes the permission `rewrap` there too. Default: this key.',
      }),
      total: z.int().min(1).max(Number.MAX_SAFE_INTEGER).optional().meta({
        description: 'How many items there will be; further ones are refused.',
      }),
      itemsPerSecond: z.int().min(1).max(100_000).optional().meta({
        description: 'At most the configured one, which it is when absent.',
      }),
      note: text(512, 'What it is for; kept with the job.').optional(),
    })
    .meta({ id: 'CreateRewrapJobRequest' }),
  status: 202,
  also: { 200: 'With `dryRun=true`: what would be made.' },
  response: changedOperation,
  errors: [
    ...KEY_ERRORS,
    'quota_exceeded',
    'idempotency_mismatch',
    'idempotency_in_progress',
    'read_only_grace',
  ],
});

const offset = z
  .string()
  .regex(/^(?:0|[1-9][0-9]{0,14})$/, 'must be a number of items')
  .transform(Number)
  .meta({
    description: "Offset of the first line among the client's items, from 0.",
    override: { type: 'integer' },
  });

export const rewrapLine = z
  .union([
    rewrapAnswer.safeExtend(ECHOED_REF),
    z.object({ ...ECHOED_REF, error: itemError }),
    z.object({ offset: count('Offset of the next item to send.'), state, progress }),
  ])
  .meta({
    id: 'RewrapJobLine',
    description: 'One for each item, in order, and the last one: how far the job is.',
  });

export const sendRewrapItems = defineRoute({
  method: 'POST',
  plane: 'admin',
  id: 'sendRewrapItems',
  path: '/v1/admin/operations/{id}/items',
  operation: 'rewrap-jobs.continue',
  summary: 'Rewraps the next items; takes `rewrap` on the keys of the job, each time anew.',
  params: operationParams,
  query: z.strictObject({ offset }),
  body: rewrapItem.safeExtend(REF).meta({ id: 'RewrapJobItem' }),
  json: ['application/x-ndjson'],
  lines: true,
  limit: 'batch',
  gives: ['application/x-ndjson'],
  response: rewrapLine,
  errors: [...KEY_ERRORS, ...ENDING],
});

export const finishOperation = defineRoute({
  method: 'POST',
  plane: 'admin',
  id: 'finishOperation',
  path: '/v1/admin/operations/{id}/finish',
  operation: 'rewrap-jobs.continue',
  summary:
    'Ends a rewrap job whose items are all sent: fewer than its `total` are 409 `conflict`, and whoever will send no more cancels it. The same again changes nothing.',
  params: operationParams,
  query: dryRunQuery,
  body: z.strictObject({}).meta({ id: 'FinishOperationRequest' }),
  response: changedOperation,
  errors: ENDING,
});

export const cancelOperation = defineRoute({
  method: 'POST',
  plane: 'admin',
  id: 'cancelOperation',
  path: '/v1/admin/operations/{id}/cancel',
  operation: 'operations.cancel',
  summary: 'Ends an operation; what it has done stays done. The same again changes nothing.',
  params: operationParams,
  query: dryRunQuery,
  body: z
    .strictObject({ reason: text(512, 'Why; kept with the operation and in the audit log.') })
    .meta({ id: 'CancelOperationRequest' }),
  response: changedOperation,
  errors: ENDING,
});

export const getOperation = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'getOperation',
  path: '/v1/admin/operations/{id}',
  operation: 'operations.read',
  summary: 'One operation: of the principal, or with `operations.oversee` of anybody.',
  params: operationParams,
  response: operation,
  errors: STORED,
});

export const listOperations = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'listOperations',
  path: '/v1/admin/operations',
  operation: 'operations.read',
  summary: 'Lists operations, newest first: own ones, or with `operations.oversee` all.',
  query: z.strictObject({ ...PAGING, kind: kind.optional(), state: state.optional() }),
  response: page(operation, 'OperationPage'),
  errors: STORED,
});
