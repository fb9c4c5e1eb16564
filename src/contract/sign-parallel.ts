/**
 * Several signatures of one message, each by a key of its own: a JWS in the general JSON form (RFC
 * 7515 section 7.2.1). Meant for one classical key and one that is not broken by a quantum computer,
 * so that a verifier that knows only one of them checks that one; the answer says which are which.
 */
import { z } from 'zod';

import { USED } from './answer.ts';
import { KEY_ERRORS, defineRoute } from './route.ts';
import { MAX_MESSAGE, keyReference, keyVersion, secretBytes } from './scalars.ts';

const signature = z.object({
  protected: z.string().meta({ description: 'Header in base64url; its `kid` names the version.' }),
  signature: z.string().meta({ description: 'Unpadded base64url.' }),
});

export const signParallel = defineRoute({
  method: 'POST',
  plane: 'use',
  id: 'signParallel',
  path: '/v1/sign-parallel',
  operation: 'sign-parallel',
  summary: 'Signs one message with two to four keys, all or none; takes `sign` on each of them.',
  body: z
    .strictObject({
      keys: z
        .array(z.strictObject({ key: keyReference, keyVersion: keyVersion.optional() }))
        .min(2)
        .max(4)
        .refine(
          (keys) => new Set(keys.map(({ key }) => key)).size === keys.length,
          'must name distinct keys',
        ),
      message: secretBytes({ max: MAX_MESSAGE, description: 'What is signed: the payload.' }),
    })
    .meta({ id: 'SignParallelRequest' }),
  response: z
    .object({
      jws: z.object({
        payload: z.string().meta({ description: 'Unpadded base64url.', 'x-sensitive': true }),
        signatures: z.array(signature).meta({ description: 'In the order of `keys`.' }),
      }),
      keys: z.array(
        z.object({
          ...USED,
          quantumVulnerable: z.boolean().meta({
            description: 'Whether a quantum computer can forge signatures of this key.',
          }),
        }),
      ),
    })
    .meta({ id: 'SignParallelAnswer' }),
  errors: [...KEY_ERRORS, 'invalid_base64', 'version_not_found'],
});
