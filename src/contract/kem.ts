/**
 * Key agreement for keys of purpose `kem`. What is answered is an HPKE export (RFC 9180 section 5.3),
 * never the KEM secret itself.
 */
import { z } from 'zod';

import { USED } from './answer.ts';
import { KEY_ERRORS, defineRoute, keyParams } from './route.ts';
import { base64, keyVersion, publicBytes, secretBase64 } from './scalars.ts';

const sharedSecret = secretBase64('32 bytes that both sides derive.');
const shared = { method: 'POST', plane: 'use', params: keyParams } as const;

export const encapsulate = defineRoute({
  ...shared,
  id: 'encapsulate',
  path: '/v1/keys/{key}/encapsulate',
  operation: 'encapsulate',
  summary: 'Makes a shared secret and the encapsulation from which the key derives it again.',
  body: z.strictObject({ keyVersion: keyVersion.optional() }).meta({ id: 'EncapsulateRequest' }),
  response: z
    .object({ sharedSecret, encapsulation: base64('For `decapsulate`.'), ...USED })
    .meta({ id: 'EncapsulateAnswer' }),
  errors: [...KEY_ERRORS, 'version_not_found'],
});

export const decapsulate = defineRoute({
  ...shared,
  id: 'decapsulate',
  path: '/v1/keys/{key}/decapsulate',
  operation: 'decapsulate',
  summary: 'Derives the shared secret of an encapsulation.',
  body: z
    .strictObject({
      encapsulation: publicBytes({ min: 1, max: 8192, description: 'From `encapsulate`.' }),
      keyVersion,
    })
    .meta({ id: 'DecapsulateRequest' }),
  response: z.object({ sharedSecret, ...USED }).meta({ id: 'DecapsulateAnswer' }),
  errors: [...KEY_ERRORS, 'invalid_base64', 'version_not_found', 'decryption_failed'],
});
