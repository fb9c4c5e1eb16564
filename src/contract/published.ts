/**
 * Public keys of published keys, for whoever verifies or wraps without a token. Every key that is not
 * published, suspended or destroyed, and every name that is no key's, gets the same answer.
 */
import { z } from 'zod';

import { jwk } from './keys.ts';
import { defineRoute } from './route.ts';
import { keyReference, keyVersionText } from './scalars.ts';
import type { ErrorCode } from '../errors.ts';

/** Seconds for which others may keep an answer, and so go on with a key that was revoked meanwhile. */
export const MAX_AGE = 300;

const ERRORS = [
  'invalid_value',
  'key_not_found',
  'conflict',
  'hsm_unavailable',
  'hsm_busy',
  'database_unavailable',
  'integrity_failed',
] as const satisfies readonly ErrorCode[];

const shared = {
  method: 'GET',
  plane: 'public',
  operation: null,
  params: z.strictObject({ namespace: z.string(), key: keyReference }),
  also: { 304: 'Not modified: `If-None-Match` has the ETag.' },
  errors: ERRORS,
} as const;

export const publishedJwks = defineRoute({
  ...shared,
  id: 'publishedJwks',
  path: '/public/{namespace}/{key}/jwks.json',
  summary: 'The public keys of a published key as a JWK set (RFC 7517), as `getJwks` answers them.',
  gives: ['application/jwk-set+json'],
  response: z.object({ keys: z.array(jwk) }),
});

export const publishedPem = defineRoute({
  ...shared,
  id: 'publishedPem',
  path: '/public/{namespace}/{key}/key.pem',
  summary: 'The public key of one version of a published key as PEM (RFC 7468).',
  query: z.strictObject({
    version: keyVersionText.optional().meta({ description: 'Default: the primary version.' }),
  }),
  gives: ['application/x-pem-file'],
  response: z.string(),
});
