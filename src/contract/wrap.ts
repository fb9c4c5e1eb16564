/**
 * Wrapping: small plaintexts (data keys) sealed to a key version as an envelope.
 *
 * Every failure to open an envelope that names this key and one of its versions is
 * `decryption_failed`, whatever was wrong with it.
 */
import { z } from 'zod';

import { NAME } from '../name.ts';
import { USED, USED_HEADERS, origin, refreshAfter } from './answer.ts';
import { ECHOED_REF, REF, batchOf, resultsOf } from './batch.ts';
import { BINDING } from './context.ts';
import { KEY_ERRORS, defineRoute, headers, keyParams } from './route.ts';
import {
  MAX_PLAINTEXT,
  envelope,
  envelopeText,
  keyReference,
  keyVersion,
  secretBase64,
  secretBytes,
} from './scalars.ts';
import type { ErrorCode } from '../errors.ts';

const headerText = z.string().optional();
/** The binding of a byte body: base64 of the JSON object, and base64. */
const BINDING_HEADERS = {
  'twofold-encryption-context': headerText.meta({
    description: 'For byte bodies: base64 of the JSON of `encryptionContext`.',
  }),
  'twofold-aad': headerText.meta({ description: 'For byte bodies: base64 of `aad`.' }),
} as const;
const BINDING_INPUTS = {
  'twofold-encryption-context': 'encryptionContext',
  'twofold-aad': 'aad',
} as const;

/** Of the call of a Kubernetes API server that the request is for. */
export const UID_HEADER = 'twofold-kubernetes-uid';
const UID = {
  [UID_HEADER]: z
    .uuid()
    .optional()
    .meta({
      description:
        "The `uid` of a KMS v2 call, a UUID as API servers make it: the request's audit entry has it as " +
        '`detail.uid`, in the clear.',
    }),
} as const;

const OCTETS = ['application/octet-stream'] as const;
const OCTETS_OR_TEXT = ['application/octet-stream', 'text/plain'] as const;
const REFRESH_HEADER = { refreshAfter: `${NAME.header}Refresh-After` } as const;

const ENVELOPE_ERRORS = [
  'invalid_envelope',
  'unsupported_envelope_version',
  'unknown_suite',
  'invalid_base64',
  'key_mismatch',
  'version_not_found',
  'decryption_failed',
] as const satisfies readonly ErrorCode[];
const SEAL_ERRORS = ['invalid_base64', 'version_not_found'] as const satisfies readonly ErrorCode[];

const wrapBody = z.strictObject({
  plaintext: secretBytes({ max: MAX_PLAINTEXT, description: 'What is wrapped, at most 64 KiB.' }),
  ...BINDING,
  keyVersion: keyVersion.optional(),
});
const wrapAnswer = z.object({ ciphertext: envelopeText, ...USED, refreshAfter });

const unwrapBody = z.strictObject({ ciphertext: envelope, ...BINDING });
const unwrapAnswer = z.object({ plaintext: secretBase64('What was wrapped.'), origin, ...USED });

/** What is moved. */
export const rewrapItem = z.strictObject({ ciphertext: envelope, ...BINDING });
const rewrapBody = rewrapItem.safeExtend({
  to: keyReference.optional().meta({
    description: 'Key to rewrap to; takes the permission `rewrap` there too. Default: this key.',
  }),
});
export const rewrapAnswer = z.object({
  ciphertext: envelopeText,
  changed: z.boolean().meta({ description: 'False when it was at the primary version already.' }),
  ...USED,
  refreshAfter,
});

const dataKeyBody = z
  .strictObject({
    bytes: z.int().min(1).max(1024).meta({ description: 'Length of the data key.' }),
    ...BINDING,
  })
  .meta({ id: 'DataKeyRequest' });

const shared = { method: 'POST', plane: 'use', params: keyParams } as const;

export const wrap = defineRoute({
  ...shared,
  id: 'wrap',
  path: '/v1/keys/{key}/wrap',
  operation: 'wrap',
  summary: 'Wraps a plaintext to the primary or a named version.',
  headers: headers({ ...BINDING_HEADERS, ...UID, 'twofold-key-version': headerText }),
  body: wrapBody.meta({ id: 'WrapRequest' }),
  bytes: {
    member: 'plaintext',
    accepts: OCTETS,
    inputs: { ...BINDING_INPUTS, 'twofold-key-version': 'keyVersion' },
    answer: 'ciphertext',
    gives: OCTETS_OR_TEXT,
    outputs: { ...USED_HEADERS, ...REFRESH_HEADER },
  },
  response: wrapAnswer.meta({ id: 'WrapAnswer' }),
  errors: [...KEY_ERRORS, ...SEAL_ERRORS],
});

export const wrapBatch = defineRoute({
  ...shared,
  id: 'wrapBatch',
  path: '/v1/keys/{key}/wrap/batch',
  operation: 'wrap',
  summary: 'Wraps many plaintexts.',
  body: batchOf(wrapBody.safeExtend(REF), 'WrapBatchRequest'),
  limit: 'batch',
  response: resultsOf(wrapAnswer.safeExtend(ECHOED_REF), 'WrapBatchAnswer'),
  errors: [...KEY_ERRORS, ...SEAL_ERRORS],
});

export const unwrap = defineRoute({
  ...shared,
  id: 'unwrap',
  path: '/v1/keys/{key}/unwrap',
  operation: 'unwrap',
  summary: 'Opens a ciphertext of this key, of any usable version.',
  headers: headers({ ...BINDING_HEADERS, ...UID }),
  body: unwrapBody.meta({ id: 'UnwrapRequest' }),
  bytes: {
    member: 'ciphertext',
    accepts: OCTETS_OR_TEXT,
    inputs: BINDING_INPUTS,
    answer: 'plaintext',
    gives: OCTETS,
    outputs: { ...USED_HEADERS, origin: `${NAME.header}Origin` },
  },
  response: unwrapAnswer.meta({ id: 'UnwrapAnswer' }),
  errors: [...KEY_ERRORS, ...ENVELOPE_ERRORS],
});

export const unwrapBatch = defineRoute({
  ...shared,
  id: 'unwrapBatch',
  path: '/v1/keys/{key}/unwrap/batch',
  operation: 'unwrap',
  summary: 'Opens many ciphertexts.',
  body: batchOf(unwrapBody.safeExtend(REF), 'UnwrapBatchRequest'),
  limit: 'batch',
  response: resultsOf(unwrapAnswer.safeExtend(ECHOED_REF), 'UnwrapBatchAnswer'),
  errors: [...KEY_ERRORS, ...ENVELOPE_ERRORS],
});

export const rewrap = defineRoute({
  ...shared,
  id: 'rewrap',
  path: '/v1/keys/{key}/rewrap',
  operation: 'rewrap',
  summary: 'Moves a ciphertext to the primary version without showing its plaintext.',
  headers: headers({ ...BINDING_HEADERS, 'twofold-to': headerText }),
  body: rewrapBody.meta({ id: 'RewrapRequest' }),
  bytes: {
    member: 'ciphertext',
    accepts: OCTETS_OR_TEXT,
    inputs: { ...BINDING_INPUTS, 'twofold-to': 'to' },
    answer: 'ciphertext',
    gives: OCTETS_OR_TEXT,
    outputs: { ...USED_HEADERS, ...REFRESH_HEADER, changed: `${NAME.header}Changed` },
  },
  response: rewrapAnswer.meta({ id: 'RewrapAnswer' }),
  errors: [...KEY_ERRORS, ...ENVELOPE_ERRORS, 'origin_would_rise'],
});

export const rewrapBatch = defineRoute({
  ...shared,
  id: 'rewrapBatch',
  path: '/v1/keys/{key}/rewrap/batch',
  operation: 'rewrap',
  summary: 'Rewraps many ciphertexts.',
  body: batchOf(rewrapBody.safeExtend(REF), 'RewrapBatchRequest'),
  limit: 'batch',
  response: resultsOf(rewrapAnswer.safeExtend(ECHOED_REF), 'RewrapBatchAnswer'),
  errors: [...KEY_ERRORS, ...ENVELOPE_ERRORS, 'origin_would_rise'],
});

export const createDataKey = defineRoute({
  ...shared,
  id: 'createDataKey',
  path: '/v1/keys/{key}/data-keys',
  operation: 'data-keys.create',
  summary: 'Makes random bytes in the HSM and answers them plain and wrapped.',
  body: dataKeyBody,
  bytes: {
    member: null,
    accepts: [],
    inputs: {},
    answer: 'plaintext',
    gives: OCTETS,
    outputs: { ...USED_HEADERS, ...REFRESH_HEADER, ciphertext: `${NAME.header}Ciphertext` },
  },
  response: wrapAnswer
    .safeExtend({ plaintext: secretBase64('The data key.') })
    .meta({ id: 'DataKeyAnswer' }),
  errors: [...KEY_ERRORS, ...SEAL_ERRORS],
});

export const createWrappedDataKey = defineRoute({
  ...shared,
  id: 'createWrappedDataKey',
  path: '/v1/keys/{key}/data-keys/wrapped',
  operation: 'data-keys.create-wrapped',
  summary: 'Makes random bytes in the HSM and answers them wrapped only.',
  body: dataKeyBody,
  bytes: {
    member: null,
    accepts: [],
    inputs: {},
    answer: 'ciphertext',
    gives: OCTETS_OR_TEXT,
    outputs: { ...USED_HEADERS, ...REFRESH_HEADER },
  },
  response: wrapAnswer.meta({ id: 'WrappedDataKeyAnswer' }),
  errors: [...KEY_ERRORS, ...SEAL_ERRORS],
});
