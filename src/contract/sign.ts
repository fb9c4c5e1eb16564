/**
 * Signatures. A message of any size is signed by its digest, which the suite's pre-hash fixes, or, by
 * ML-DSA alone, by its mu; the signature is the same either way. `verify` never says which half of a
 * hybrid failed.
 */
import { z } from 'zod';

import { USED, USED_HEADERS } from './answer.ts';
import { ECHOED_REF, REF, batchOf, resultsOf } from './batch.ts';
import { signatureContext } from './context.ts';
import { KEY_ERRORS, defineRoute, headers, keyParams } from './route.ts';
import {
  MAX_MESSAGE,
  base64,
  keyVersion,
  publicBytes,
  secretBytes,
  secretText,
} from './scalars.ts';
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

/** Characters of a compact JWS; the bound of the body is lower for a single one. */
const MAX_JWS = 4_194_304;

/** Of FIPS 204 algorithm 7 line 6, bytes. */
const MU_LENGTH = 64;

/** Exactly one of `message`, `digest` and `mu`. */
const INPUT = {
  message: secretBytes({
    max: MAX_MESSAGE,
    description: 'What is signed, at most 1 MiB.',
  }).optional(),
  digest: digest.optional().meta({ description: "The message's digest by the suite's pre-hash." }),
  mu: publicBytes({
    min: MU_LENGTH,
    max: MU_LENGTH,
    description:
      'For ML-DSA on its own: the message representative of FIPS 204 algorithm 7 line 6, ' +
      'which covers public key and context; give no `signatureContext` beside it.',
  }).optional(),
  signatureContext: signatureContext.optional(),
  keyVersion: keyVersion.optional(),
} as const;

const exactlyOne = ({ message, digest: hashed, mu }: Readonly<Record<string, unknown>>) =>
  [message, hashed, mu].filter((input) => input !== undefined).length === 1;
const ONE_INPUT = 'must have exactly one of message, digest and mu';

/** A JWS signs its header and payload, so that nothing else can bind it. */
const fitsFormat = (body: { readonly format?: unknown } & Record<string, unknown>) =>
  body.format !== 'jws' ||
  (body['message'] !== undefined && body['signatureContext'] === undefined);

const signBody = z
  .strictObject({
    ...INPUT,
    format: z.enum(['raw', 'jws']).optional().meta({
      description:
        '`jws`: the compact form of RFC 7515 over `message`, with `kid` as in the JWKs. Default: `raw`.',
    }),
  })
  .refine(exactlyOne, ONE_INPUT)
  .refine(fitsFormat, 'must have message and no signatureContext where format is jws');
const jwsText = (description: string) => z.string().meta({ description, 'x-sensitive': true });
const signAnswer = z.object({
  signature: base64('The signature; absent with `format: jws`.').optional(),
  jws: jwsText('Header, payload and signature; with `format: jws` only.').optional(),
  ...USED,
});

/** Either a JWS, or a signature beside what it signs. */
const eitherForm = (body: Readonly<Record<string, unknown>>) =>
  body['jws'] === undefined
    ? exactlyOne(body) && body['signature'] !== undefined
    : ['message', 'digest', 'mu', 'signatureContext', 'signature'].every((name) => !(name in body));

const verifyBody = z
  .strictObject({
    ...INPUT,
    signature: publicBytes({ max: 65_536, description: 'The signature to check.' }).optional(),
    jws: secretText({
      max: MAX_JWS,
      description:
        'A compact JWS in place of message and signature. Its `alg` must be the key’s; a `kid` of ' +
        'this service must be of this key and names the version.',
    }).optional(),
  })
  .refine(
    eitherForm,
    'must have either jws, or signature and exactly one of message, digest and mu',
  );
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
const FORMAT_HEADER = {
  'twofold-format': headerText.meta({ description: 'For byte bodies: `format`.' }),
} as const;

const ERRORS = ['invalid_base64', 'version_not_found'] as const satisfies readonly ErrorCode[];
const VERIFY_ERRORS = [...ERRORS, 'ambiguous_version', 'key_mismatch'] as const;
const shared = { method: 'POST', plane: 'use', params: keyParams } as const;

export const sign = defineRoute({
  ...shared,
  id: 'sign',
  path: '/v1/keys/{key}/sign',
  operation: 'sign',
  summary:
    'Signs a message, its digest or its mu; a byte answer of `format: jws` is the JWS as text.',
  headers: headers({ ...SIGN_HEADERS, ...FORMAT_HEADER }),
  body: signBody.meta({ id: 'SignRequest' }),
  bytes: {
    member: 'message',
    accepts: ['application/octet-stream'],
    inputs: { ...SIGN_INPUTS, 'twofold-format': 'format' },
    answer: ['signature', 'jws'],
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
  errors: [...KEY_ERRORS, ...VERIFY_ERRORS],
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
  errors: [...KEY_ERRORS, ...VERIFY_ERRORS],
});
