/**
 * Certification requests (PKCS #10, RFC 2986): proof that a key of this service is asked to be
 * certified under a name. What the name may say is the certifier's to judge; here it is only strict.
 */
import { z } from 'zod';

import { USED } from './answer.ts';
import { KEY_ERRORS, defineRoute, keyParams } from './route.ts';
import { keyVersion } from './scalars.ts';

const attribute = z.string().min(1).max(256).optional();

/** The attributes that a name may have, by their short names of RFC 4514 or OpenSSL. */
export const relativeName = z
  .strictObject({
    CN: attribute,
    serialNumber: attribute,
    C: attribute,
    L: attribute,
    ST: attribute,
    street: attribute,
    O: attribute,
    OU: attribute,
    title: attribute,
    GN: attribute,
    SN: attribute,
    DC: attribute,
    UID: attribute,
  })
  .meta({ description: 'One relative name; usually of one attribute.' });

const name = z.string().min(1).max(2048).optional();
const alternativeName = z
  .strictObject({ dns: name, uri: name, email: name, ip: name })
  .refine((kinds) => Object.keys(kinds).length === 1, 'must have exactly one kind');

export const requestCertificate = defineRoute({
  method: 'POST',
  plane: 'use',
  params: keyParams,
  id: 'requestCertificate',
  path: '/v1/keys/{key}/csr',
  operation: 'csr',
  summary: 'A certification request for a version of a signing key, signed by it.',
  body: z
    .strictObject({
      subject: z.array(relativeName).max(16).meta({
        description: 'From the root of the directory to the leaf; may be empty beside other names.',
      }),
      alternativeNames: z.array(alternativeName).max(100).optional(),
      keyVersion: keyVersion.optional(),
    })
    .meta({ id: 'CsrRequest' }),
  response: z
    .object({ csr: z.string().meta({ description: 'PEM (RFC 7468).' }), ...USED })
    .meta({ id: 'CsrAnswer' }),
  errors: [...KEY_ERRORS, 'version_not_found'],
});
