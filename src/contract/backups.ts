/** Backups of the whole installation; in the root namespace alone. */
import { z } from 'zod';

import { dryRunQuery, idempotencyKey } from './admin-keys.ts';
import { PAGING, page } from './answer.ts';
import { defineRoute, headers } from './route.ts';
import { time, uuid } from './scalars.ts';

const sum = (description: string) => z.int().min(0).nullable().meta({ description });
const entries = z.enum(['tail', 'all']).meta({
  description: 'Audit entries in it: all, or those that the log goes on from.',
});

const members = {
  id: uuid,
  state: z.enum(['running', 'succeeded', 'failed']).meta({
    description: 'One that a killed process left is `failed` once the next is taken.',
  }),
  verified: z.boolean().meta({
    description: 'Whether it was read back and opened after it was written: all that succeeded.',
  }),
  requestedBy: z
    .object({ issuer: z.string(), subject: z.string() })
    .nullable()
    .meta({ description: 'Null: the schedule, or the command on the machine.' }),
  createdAt: time.meta({ description: 'Of its snapshot: nothing from later is in it.' }),
  ageSeconds: z.int().min(0).meta({ description: 'Since then.' }),
  endedAt: time.nullable(),
  folder: z.string().meta({ description: 'Its name within the configured folder.' }),
  entries,
  bytes: sum('Of its content.'),
  rows: sum('Of all tables.'),
  keys: sum('Keys in it.'),
  logSize: sum('Entries of the audit log at its snapshot.'),
  problem: z.string().nullable().meta({ description: 'Code of why it failed.' }),
} as const;

const backup = z.object(members).meta({ id: 'Backup' });
const takenBackup = z
  .object({ ...members, dryRun: z.literal(true).optional() })
  .meta({ id: 'TakenBackup' });

export const takeBackup = defineRoute({
  method: 'POST',
  plane: 'admin',
  id: 'takeBackup',
  path: '/v1/admin/backups',
  operation: 'backups.take',
  summary: 'Takes a backup now; answered once its snapshot is held, and goes on by itself.',
  query: dryRunQuery,
  headers: headers({ 'idempotency-key': idempotencyKey }),
  body: z
    .strictObject({
      entries: entries.optional().meta({ description: 'As `backup.entries` says unless told.' }),
    })
    .meta({ id: 'TakeBackupRequest' }),
  // 202 would say that it waits for an approval.
  status: 201,
  also: { 200: 'With `dryRun=true`: one could be begun, and was not.' },
  response: takenBackup,
  errors: [
    'conflict',
    'idempotency_mismatch',
    'integrity_failed',
    'storage_full',
    'read_only_grace',
  ],
});

export const listBackups = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'listBackups',
  path: '/v1/admin/backups',
  operation: 'backups.read',
  summary: 'Backups that were taken, the newest first.',
  query: z.strictObject(PAGING),
  response: page(backup, 'BackupPage'),
  errors: [],
});

export const getBackup = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'getBackup',
  path: '/v1/admin/backups/{id}',
  operation: 'backups.read',
  summary: 'How far a backup is, and what is in it.',
  params: z.strictObject({ id: z.string().meta({ description: 'UUID of the backup.' }) }),
  response: backup,
  errors: ['not_found'],
});
