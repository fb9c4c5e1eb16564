/**
 * Changes of keys. All of them take `?dryRun=true`, which checks everything and changes nothing, and
 * `If-Match` with the key's ETag; `create` and `rotate` take `Idempotency-Key`, and a repeated
 * request is answered as the first one was, with `Idempotency-Replayed: true`.
 */
import { z } from 'zod';

import { MAX_LABELS, labelName, labelValue } from './answer.ts';
import { keyResource, purpose, versionResource } from './keys.ts';
import { defineRoute, headers, keyParams, versionParams } from './route.ts';
import { comingTime, keyName, keyVersion, suiteId, text } from './scalars.ts';
import type { ErrorCode } from '../errors.ts';

/** Header of an answer that was given before. */
export const REPLAYED_HEADER = 'Idempotency-Replayed';

export const dryRunQuery = z.strictObject({
  dryRun: z
    .enum(['true', 'false'])
    .transform((value) => value === 'true')
    .optional()
    .meta({ description: 'Exactly `true` or `false`.', override: { type: 'boolean' } }),
});

export const idempotencyKey = z
  .string()
  .regex(/^[\x21-\x7e]{1,255}$/, 'must be 1 to 255 visible ASCII characters')
  .optional()
  .meta({ description: 'The same key with other content is `idempotency_mismatch`.' });

const ifMatch = z
  .string()
  .regex(/^(?:W\/)?"[\x21\x23-\x7e]*"$/, 'must be one entity tag')
  .optional()
  .meta({ description: 'The ETag that the change is made for.' });

const labels = z
  .record(labelName, labelValue)
  .refine((value) => Object.keys(value).length <= MAX_LABELS, `at most ${MAX_LABELS} labels`);

const labelChanges = z
  .record(labelName, labelValue.nullable())
  .refine((value) => Object.keys(value).length <= MAX_LABELS, `at most ${MAX_LABELS} labels`)
  .meta({ description: 'A label set to null is removed; those not named stay.' });

/** Also of an import. */
export const publish = z.boolean().meta({
  description:
    'Shows the public keys at `/public/…` without a token; not for symmetric keys, and of a namespace for 10,000 keys ' +
    'at most (`quota_exceeded`).',
});

const activateAt = comingTime.meta({
  description: 'When the version activates by itself and becomes the primary; at once unless told.',
});

const reason = z
  .strictObject({ reason: text(512, 'Why; kept with the state and in the audit log.') })
  .meta({ id: 'ReasonRequest' });

/** Of every change that is stored. */
export const STORED_ERRORS = [
  'etag_mismatch',
  'read_only_grace',
  'integrity_failed',
  'storage_full',
] as const satisfies readonly ErrorCode[];

export const CHANGE_ERRORS = ['key_not_found', 'conflict', ...STORED_ERRORS] as const;

export const MATERIAL_ERRORS = [
  'unknown_suite',
  'suite_unavailable_here',
  'idempotency_mismatch',
  'idempotency_in_progress',
  'hsm_unavailable',
  'hsm_busy',
  'hsm_full',
  'quota_exceeded',
  'storage_full',
] as const satisfies readonly ErrorCode[];

/** For changes that must not be made on what somebody else has changed: the tag has to be named. */
export const requiredIfMatch = ifMatch.unwrap().meta({
  description: 'The ETag that the change is made for; `precondition_required` without it.',
});

/** What every change of a key that exists takes. */
export const changeOf = <const P extends z.ZodObject>(params: P) =>
  ({
    plane: 'admin',
    params,
    query: dryRunQuery,
    headers: headers({ 'if-match': ifMatch }),
  }) as const;

const shared = { ...changeOf(keyParams), response: keyResource } as const;

export const createKey = defineRoute({
  method: 'POST',
  plane: 'admin',
  id: 'createKey',
  path: '/v1/admin/keys',
  operation: 'keys.create',
  summary: 'Makes a key and its first version, which is active at once unless told.',
  query: dryRunQuery,
  headers: headers({ 'idempotency-key': idempotencyKey }),
  body: z
    .strictObject({
      name: keyName,
      suite: suiteId,
      purpose: purpose.optional().meta({
        description: 'To be named only for `kem`; a KEM suite serves `wrap` otherwise.',
      }),
      labels: labels.optional(),
      deletionProtection: z.boolean().optional(),
      publish: publish.optional(),
      custody: z.enum(['hsm-wrapped', 'hsm-token']).optional().meta({
        description: 'Naming `hsm-token` accepts that the key lives and dies with one token.',
      }),
      activateAt: activateAt.optional(),
      exportable: z.boolean().optional().meta({
        description:
          'Whether its versions may be exported; suites without a half in the HSM alone.',
      }),
    })
    .meta({ id: 'CreateKeyRequest' }),
  status: 201,
  also: { 200: 'With `dryRun=true`: what would be made.' },
  response: keyResource,
  errors: [
    ...MATERIAL_ERRORS,
    'conflict',
    'integrity_failed',
    'key_exists',
    'name_retired',
    'wrong_purpose',
    'export_not_offered',
    'not_found',
    'read_only_grace',
  ],
});

export const updateKey = defineRoute({
  ...shared,
  method: 'PATCH',
  id: 'updateKey',
  path: '/v1/admin/keys/{key}',
  operation: 'keys.update',
  summary: 'Changes labels, protection, publication, usable versions (RFC 7396 merge patch).',
  json: ['application/merge-patch+json', 'application/json'],
  body: z
    .strictObject({
      labels: labelChanges.optional(),
      deletionProtection: z
        .boolean()
        .optional()
        .meta({
          description:
            '`true` is refused (`version_not_usable`) while a destruction of the key or of a version is ' +
            'scheduled: it is cancelled first.',
        }),
      publish: publish.optional(),
      minUsableVersion: keyVersion.optional().meta({
        description: 'Closes the versions below it for everything; at most the primary version.',
      }),
    })
    .meta({ id: 'UpdateKeyRequest' }),
  errors: [
    ...CHANGE_ERRORS,
    'wrong_purpose',
    'deletion_protected',
    'version_not_usable',
    'quota_exceeded',
  ],
});

export const rotateKey = defineRoute({
  ...shared,
  method: 'POST',
  id: 'rotateKey',
  path: '/v1/admin/keys/{key}/rotate',
  operation: 'keys.rotate',
  summary: 'Makes a new version, in the same or another suite: the primary, at once unless told.',
  headers: headers({ 'if-match': ifMatch, 'idempotency-key': idempotencyKey }),
  body: z
    .strictObject({ suite: suiteId.optional(), activateAt: activateAt.optional() })
    .meta({ id: 'RotateKeyRequest' }),
  errors: [...CHANGE_ERRORS, ...MATERIAL_ERRORS, 'wrong_purpose', 'version_not_usable'],
});

/** A destroyed key takes no change. */
const OF_A_LIVING_KEY = [...CHANGE_ERRORS, 'version_not_usable'] as const;

export const suspendKey = defineRoute({
  ...shared,
  method: 'POST',
  id: 'suspendKey',
  path: '/v1/admin/keys/{key}/suspend',
  operation: 'keys.suspend',
  summary: 'Stops every use of the key, at once and everywhere.',
  body: reason,
  errors: OF_A_LIVING_KEY,
});

export const resumeKey = defineRoute({
  ...shared,
  method: 'POST',
  id: 'resumeKey',
  path: '/v1/admin/keys/{key}/resume',
  operation: 'keys.resume',
  summary: 'Ends the suspension of a key.',
  body: reason,
  errors: OF_A_LIVING_KEY,
});

export const suspendVersion = defineRoute({
  ...shared,
  params: versionParams,
  method: 'POST',
  id: 'suspendVersion',
  path: '/v1/admin/keys/{key}/versions/{version}/suspend',
  operation: 'versions.suspend',
  summary: 'Stops every use of one version; the primary version cannot be suspended.',
  body: reason,
  response: versionResource,
  errors: [...OF_A_LIVING_KEY, 'version_not_found', 'primary_protected'],
});

export const resumeVersion = defineRoute({
  ...shared,
  params: versionParams,
  method: 'POST',
  id: 'resumeVersion',
  path: '/v1/admin/keys/{key}/versions/{version}/resume',
  operation: 'versions.resume',
  summary: 'Ends the suspension of a version.',
  body: reason,
  response: versionResource,
  errors: [...OF_A_LIVING_KEY, 'version_not_found'],
});
