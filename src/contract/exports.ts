/** Export of keys: what was created to leave, sealed to a recipient's hybrid key, and approved by others. */
import { z } from 'zod';

import { CHANGE_ERRORS, dryRunQuery, idempotencyKey } from './admin-keys.ts';
import { hpkeIds } from './keys.ts';
import { defineRoute, headers, keyParams } from './route.ts';
import { base64, keyVersion, publicBytes, suiteId, uuid } from './scalars.ts';

/** The longest public key of a recipient is that of MLKEM1024-P384. */
const MAX_PUBLIC_KEY = 2048;

export const exportKey = defineRoute({
  method: 'POST',
  plane: 'admin',
  id: 'exportKey',
  path: '/v1/admin/keys/{key}/export',
  operation: 'keys.export',
  summary:
    'Seals the private key of a version to a recipient. Approved by others always: a rule guards `keys.export`.',
  params: keyParams,
  query: dryRunQuery,
  headers: headers({ 'idempotency-key': idempotencyKey }),
  body: z
    .strictObject({
      version: keyVersion,
      recipient: z.strictObject({
        suite: suiteId.meta({ description: 'A hybrid KEM.' }),
        publicKey: publicBytes({
          min: 1,
          max: MAX_PUBLIC_KEY,
          description:
            'Raw: that of ML-KEM, then the uncompressed point, or the 32 bytes of X25519.',
        }),
      }),
    })
    .meta({ id: 'ExportKeyRequest' }),
  response: z
    .object({
      key: z.string(),
      keyId: uuid,
      keyVersion,
      namespace: z.string(),
      suite: suiteId,
      publicKey: base64('Raw public key of the version.'),
      recipient: z.object({
        suite: suiteId,
        fingerprint: z.string().meta({ description: 'SHA-256 of its public key, hexadecimal.' }),
      }),
      hpke: hpkeIds,
      envelope: base64(
        'HPKE: enc, then the ciphertext. docs/export.md says what is in it; null in a dry run.',
      ).nullable(),
      dryRun: z.literal(true).optional(),
    })
    .meta({ id: 'ExportedKey' }),
  errors: [
    ...CHANGE_ERRORS,
    'version_not_found',
    'version_not_usable',
    'key_not_exportable',
    'export_not_offered',
    'approval_rule_missing',
    'unknown_suite',
    'quota_exceeded',
    'idempotency_mismatch',
    'hsm_unavailable',
    'hsm_busy',
    'zone_lacks_material',
  ],
});
