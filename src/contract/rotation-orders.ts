/** Rotations of many keys by one order, which is an operation that the scheduler carries out. */
import { z } from 'zod';

import { dryRunQuery, idempotencyKey } from './admin-keys.ts';
import { PAGING, page } from './answer.ts';
import { changedOperation, operationParams } from './operations.ts';
import { defineRoute, headers } from './route.ts';
import { selector } from './rotation.ts';
import { suiteId, text, time, uuid } from './scalars.ts';

const labels = selector.refine(
  (value) => Object.keys(value).length > 0,
  'names a label; every key of the namespace is meant by `all` alone',
);

export const orderRotations = defineRoute({
  method: 'POST',
  plane: 'admin',
  id: 'orderRotations',
  path: '/v1/admin/rotations',
  operation: 'rotations.order',
  summary:
    'Orders a new version of every key that has some labels, or of all keys, also while rotations are paused.',
  query: dryRunQuery,
  headers: headers({ 'idempotency-key': idempotencyKey }),
  body: z
    .strictObject({
      selector: z.union([
        z.strictObject({
          labels: labels.meta({ description: 'Labels that a key must all have.' }),
        }),
        z.strictObject({
          all: z.literal(true).meta({ description: 'Every key of the namespace.' }),
        }),
      ]),
      suite: suiteId.optional().meta({
        description: "Suite of the new versions; that of each key's primary when absent.",
      }),
      reason: text(512, 'Why; kept with the order and in the audit log.'),
    })
    .meta({ id: 'OrderRotationsRequest' }),
  status: 202,
  also: { 200: 'With `dryRun=true`: what would be ordered, and of how many keys.' },
  response: changedOperation,
  errors: [
    'unknown_suite',
    'quota_exceeded',
    'not_found',
    'idempotency_mismatch',
    'idempotency_in_progress',
    'integrity_failed',
    'read_only_grace',
    'storage_full',
  ],
});

export const listOrderFailures = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'listOrderFailures',
  path: '/v1/admin/operations/{id}/failures',
  operation: 'operations.read',
  summary: 'Keys of an order that could not be rotated, by their ids, each with its reason.',
  params: operationParams,
  query: z.strictObject(PAGING),
  response: page(
    z
      .object({
        key: z.string(),
        keyId: uuid,
        state: z
          .enum(['waiting', 'failed'])
          .meta({ description: '`waiting`: it is tried again; `failed`: it is not.' }),
        code: z.string().meta({ description: 'Why the last attempt failed.' }),
        attempts: z.int(),
        at: time,
      })
      .meta({ id: 'OrderFailure' }),
    'OrderFailurePage',
  ),
  errors: ['not_found', 'conflict', 'integrity_failed'],
});
