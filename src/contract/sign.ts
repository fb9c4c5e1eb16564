/**
 * Signatures. A message of any size is signed by its digest, which the suite's pre-hash fixes; the
 * signature is the same either way. `verify` never says which half of a hybrid failed.
 */
import { z } from 'zod';

import { USED, USED_HEADERS } from './answer.ts';
import { ECHOED_REF, REF, batchOf, resultsOf } from './batch.ts';
import { signatureContext } from './context.ts';
import { KEY_ERRORS, defineRoute, headers, keyParams } from './route.ts';
import { MAX_MESSAGE, base64, keyVersion, publicBytes, secretBytes } from './scalars.ts';
import type { ErrorCode } from '../errors.ts';

const DIGEST_LENGTHS = { 'SHA-256': 32, 'SHA-384': 48, 'SHA-512': 64 } as const;
export type DigestAlgorithm = keyof typeof DIGEST_LENGTHS;

const digest = z
  .strictObject({
    algorithm: z.enum(['SHA-256', 'SHA-384', 'SHA-512']),
    value: publicBytes({ min: 32, max: 64, description: 'The digest.' }),
  })
  .refine(({ algorithm, value }) => value.length === DIGEST_LENGTHS[algorithm], {
    path: ['value'],
    message: 'must have the length of its algorithm',
  });

/** Exactly one of `message` and `digest`. */
const INPUT = {
  message: secretBytes({
    max: MAX_MESSAGE,
    description: 'What is signed, at most 1 MiB.',
  }).optional(),
  digest: digest.optional().meta({ description: "The message's digest by the suite's pre-hash." }),
  signatureContext: signatureContext.optional(),
  keyVersion: keyVersion.optional(),
} as const;

const exactlyOne = (body: { readonly message?: unknown; readonly digest?: unknown }) =>
  (body.message === undefined) !== (body.digest === undefined);
const ONE_INPUT = 'must have exactly one of message and digest';

const signBody = z.strictObject(INPUT).refine(exactlyOne, ONE_INPUT);
const signAnswer = z.object({ signature: base64('The signature.'), ...USED });

const verifyBody = z
  .strictObject({
    ...INPUT,
    signature: publicBytes({ max: 65_536, description: 'The signature to check.' }),
  })
  .refine(exactlyOne, ONE_INPUT);
const verifyAnswer = z.object({ valid: z.boolean(), ...USED });

const headerText = z.string().optional();
const SIGN_INPUTS = {
  'twofold-signature-context': 'signatureContext',
  'twofold-key-version': 'keyVersion',
} as const;
const SIGN_HEADERS = {
  'twofold-signature-context': headerText.meta({
    description: 'For byte bodies: base64 of `signatureContext`.',
  }),
  'twofold-key-version': headerText,
} as const;

const ERRORS = ['invalid_base64', 'version_not_found'] as const satisfies readonly ErrorCode[];
const shared = { method: 'POST', plane: 'use', params: keyParams } as const;

export const sign = defineRoute({
  ...shared,
  id: 'sign',
  path: '/v1/keys/{key}/sign',
  operation: 'sign',
  summary: 'Signs a message or its digest.',
  headers: headers(SIGN_HEADERS),
  body: signBody.meta({ id: 'SignRequest' }),
  bytes: {
    member: 'message',
    accepts: ['application/octet-stream'],
    inputs: SIGN_INPUTS,
    answer: 'signature',
    gives: ['application/octet-stream'],
    outputs: USED_HEADERS,
  },
  response: signAnswer.meta({ id: 'SignAnswer' }),
  errors: [...KEY_ERRORS, ...ERRORS],
});

export const signBatch = defineRoute({
  ...shared,
  id: 'signBatch',
  path: '/v1/keys/{key}/sign/batch',
  operation: 'sign',
  summary: 'Signs many messages.',
  body: batchOf(signBody.safeExtend(REF), 'SignBatchRequest'),
  limit: 'batch',
  response: resultsOf(signAnswer.safeExtend(ECHOED_REF), 'SignBatchAnswer'),
  errors: [...KEY_ERRORS, ...ERRORS],
});

export const verify = defineRoute({
  ...shared,
  id: 'verify',
  path: '/v1/keys/{key}/verify',
  operation: 'verify',
  summary: 'Checks a signature; `ambiguous_version` when several versions are usable, none named.',
  headers: headers({
    ...SIGN_HEADERS,
    'twofold-signature': headerText.meta({
      description: 'For byte bodies: base64 of `signature`.',
    }),
  }),
  body: verifyBody.meta({ id: 'VerifyRequest' }),
  bytes: {
    member: 'message',
    accepts: ['application/octet-stream'],
    inputs: { ...SIGN_INPUTS, 'twofold-signature': 'signature' },
    answer: null,
    gives: [],
    outputs: {},
  },
  response: verifyAnswer.meta({ id: 'VerifyAnswer' }),
  errors: [...KEY_ERRORS, ...ERRORS, 'ambiguous_version'],
});

export const verifyBatch = defineRoute({
  ...shared,
  id: 'verifyBatch',
  path: '/v1/keys/{key}/verify/batch',
  operation: 'verify',
  summary: 'Checks many signatures.',
  body: batchOf(verifyBody.safeExtend(REF), 'VerifyBatchRequest'),
  limit: 'batch',
  response: resultsOf(verifyAnswer.safeExtend(ECHOED_REF), 'VerifyBatchAnswer'),
  errors: [...KEY_ERRORS, ...ERRORS, 'ambiguous_version'],
});
