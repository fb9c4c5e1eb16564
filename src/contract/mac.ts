/** Message authentication codes, made and checked in the HSM. A MAC is as secret as a password. */
import { z } from 'zod';

import { USED, USED_HEADERS } from './answer.ts';
import { ECHOED_REF, REF, batchOf, resultsOf } from './batch.ts';
import { KEY_ERRORS, defineRoute, headers, keyParams } from './route.ts';
import { MAX_MESSAGE, keyVersion, secretBase64, secretBytes } from './scalars.ts';
import type { ErrorCode } from '../errors.ts';

const message = secretBytes({ max: MAX_MESSAGE, description: 'What is authenticated.' });
const macBody = z.strictObject({ message, keyVersion: keyVersion.optional() });
const macAnswer = z.object({ mac: secretBase64('The MAC, in full length.'), ...USED });

const verifyMacBody = z.strictObject({
  message,
  mac: secretBytes({ max: 64, description: 'The MAC to check, in full length.' }),
  keyVersion: keyVersion.optional(),
});
const verifyMacAnswer = z.object({ valid: z.boolean(), ...USED });

const ERRORS = ['invalid_base64', 'version_not_found'] as const satisfies readonly ErrorCode[];
const shared = { method: 'POST', plane: 'use', params: keyParams } as const;

export const mac = defineRoute({
  ...shared,
  id: 'mac',
  path: '/v1/keys/{key}/mac',
  operation: 'mac',
  summary: 'Makes a MAC of a message.',
  headers: headers({ 'twofold-key-version': z.string().optional() }),
  body: macBody.meta({ id: 'MacRequest' }),
  bytes: {
    member: 'message',
    accepts: ['application/octet-stream'],
    inputs: { 'twofold-key-version': 'keyVersion' },
    answer: 'mac',
    gives: ['application/octet-stream'],
    outputs: USED_HEADERS,
  },
  response: macAnswer.meta({ id: 'MacAnswer' }),
  errors: [...KEY_ERRORS, ...ERRORS],
});

export const macBatch = defineRoute({
  ...shared,
  id: 'macBatch',
  path: '/v1/keys/{key}/mac/batch',
  operation: 'mac',
  summary: 'Makes many MACs.',
  body: batchOf(macBody.safeExtend(REF), 'MacBatchRequest'),
  limit: 'batch',
  response: resultsOf(macAnswer.safeExtend(ECHOED_REF), 'MacBatchAnswer'),
  errors: [...KEY_ERRORS, ...ERRORS],
});

export const verifyMac = defineRoute({
  ...shared,
  id: 'verifyMac',
  path: '/v1/keys/{key}/verify-mac',
  operation: 'verify-mac',
  summary: 'Checks a MAC; `ambiguous_version` when several versions are usable, none named.',
  body: verifyMacBody.meta({ id: 'VerifyMacRequest' }),
  response: verifyMacAnswer.meta({ id: 'VerifyMacAnswer' }),
  errors: [...KEY_ERRORS, ...ERRORS, 'ambiguous_version'],
});

export const verifyMacBatch = defineRoute({
  ...shared,
  id: 'verifyMacBatch',
  path: '/v1/keys/{key}/verify-mac/batch',
  operation: 'verify-mac',
  summary: 'Checks many MACs.',
  body: batchOf(verifyMacBody.safeExtend(REF), 'VerifyMacBatchRequest'),
  limit: 'batch',
  response: resultsOf(verifyMacAnswer.safeExtend(ECHOED_REF), 'VerifyMacBatchAnswer'),
  errors: [...KEY_ERRORS, ...ERRORS, 'ambiguous_version'],
});
