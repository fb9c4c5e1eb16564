/**
 * Import of keys from outside. Parameters are asked for, the key is sealed to them (docs/import.md), and
 * sent once.
 */
import { z } from 'zod';

import { MAX_LABELS, labelName, labelValue } from './answer.ts';
import { MATERIAL_ERRORS, dryRunQuery, idempotencyKey, publish } from './admin-keys.ts';
import { hpkeIds, keyResource, purpose } from './keys.ts';
import { defineRoute, headers } from './route.ts';
import { base64, keyName, publicBytes, suiteId, time, uuid } from './scalars.ts';

/** A KEM ciphertext, the wrapped PKCS #8 of an RSA key of 4096 bits, and room. */
const MAX_ENVELOPE = 8192;
/** The longest raw public key is that of ML-DSA-87. */
const MAX_PUBLIC_KEY = 4096;

const labels = z
  .record(labelName, labelValue)
  .refine((value) => Object.keys(value).length <= MAX_LABELS, `at most ${MAX_LABELS} labels`);

const parametersText = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,4096}$/, 'must be the text of import parameters')
  .meta({ description: 'What `GET /v1/admin/imports/parameters` answered, unchanged.' });

export const importParameters = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'importParameters',
  path: '/v1/admin/imports/parameters',
  operation: 'keys.import-parameters',
  summary: 'Public keys to which one key of the suite is sealed for its import; nothing is stored.',
  query: z.strictObject({ suite: suiteId }),
  response: z
    .object({
      id: uuid,
      suite: suiteId.meta({ description: 'Of the key that is to be imported.' }),
      parameters: z.string().meta({ description: 'To be sent with the import.' }),
      envelope: z.object({
        suite: suiteId,
        hpke: hpkeIds,
        publicKey: base64('Raw public key of the envelope.'),
      }),
      importingKey: base64(
        'Point on P-256 of the key in the HSM that unwraps; null where the suite has no half in it.',
      ).nullable(),
      expiresAt: time,
    })
    .meta({ id: 'ImportParameters' }),
  errors: [
    'unknown_suite',
    'import_not_offered',
    'suite_unavailable_here',
    'hsm_unavailable',
    'hsm_busy',
    'hsm_full',
    'integrity_failed',
  ],
});

export const importKey = defineRoute({
  method: 'POST',
  plane: 'admin',
  id: 'importKey',
  path: '/v1/admin/imports',
  operation: 'keys.import',
  summary: 'Imports a key, as the first version of a new key of a suite of one half.',
  query: dryRunQuery,
  headers: headers({ 'idempotency-key': idempotencyKey }),
  body: z
    .strictObject({
      name: keyName,
      suite: suiteId,
      purpose: purpose.optional(),
      labels: labels.optional(),
      deletionProtection: z.boolean().optional(),
      publish: publish.optional(),
      parameters: parametersText,
      envelope: publicBytes({
        min: 1,
        max: MAX_ENVELOPE,
        description: 'HPKE: enc, then the ciphertext. docs/import.md says what is in it.',
      }),
      publicKey: publicBytes({
        min: 1,
        max: MAX_PUBLIC_KEY,
        description: 'The raw public key, to be compared; not for secret keys.',
      }).optional(),
    })
    .meta({ id: 'ImportKeyRequest' }),
  status: 201,
  also: { 200: 'With `dryRun=true`: what would be made; the envelope is not opened.' },
  response: keyResource,
  errors: [
    ...MATERIAL_ERRORS,
    'conflict',
    'integrity_failed',
    'key_exists',
    'name_retired',
    'wrong_purpose',
    'not_found',
    'read_only_grace',
    'import_not_offered',
    'import_parameters_invalid',
    'import_parameters_expired',
    'import_parameters_used',
    'import_invalid',
    'import_mismatch',
  ],
});
