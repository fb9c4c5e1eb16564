/**
 * Certificate chains (RFC 5280) stored beside the versions of asymmetric keys. What is kept is that the
 * leaf is of the version's public key and that each certificate is followed by its issuer; whom to
 * trust, and for what and how long, is a question of whoever relies on it.
 */
import { z } from 'zod';

import { CHANGE_ERRORS, changeOf } from './admin-keys.ts';
import { versionResource } from './keys.ts';
import { defineRoute, versionParams } from './route.ts';
import { time } from './scalars.ts';

/** Characters of PEM. */
const MAX_CHAIN_TEXT = 1_048_576;

const certificate = z.object({
  subject: z.string().meta({ description: 'As OpenSSL prints names, one attribute a line.' }),
  issuer: z.string(),
  notBefore: time,
  notAfter: time,
  signature: z.enum(['verified', 'unsupported', 'issuer-absent']).meta({
    description: 'By the issuer in the chain; `unsupported` where OpenSSL lacks the algorithm.',
  }),
});

export const getCertificateChain = defineRoute({
  method: 'GET',
  plane: 'use',
  params: versionParams,
  id: 'getCertificateChain',
  path: '/v1/keys/{key}/versions/{version}/certificate-chain',
  operation: 'keys.read',
  summary: 'The certificate chain that is stored beside a version.',
  response: z
    .object({
      pem: z.string().meta({ description: 'Leaf first.' }),
      certificates: z.array(certificate),
      endsInRoot: z.boolean().meta({ description: 'Whether the last one is self-signed.' }),
      fullyVerified: z.boolean().meta({
        description: 'Whether every signature but that of an absent issuer was verified.',
      }),
    })
    .meta({ id: 'CertificateChain' }),
  errors: [
    'key_not_found',
    'version_not_found',
    'not_found',
    'version_not_usable',
    'wrong_purpose',
    'integrity_failed',
  ],
});

const change = {
  ...changeOf(versionParams),
  path: '/v1/admin/keys/{key}/versions/{version}/certificate-chain',
  response: versionResource,
} as const;
const ERRORS = [...CHANGE_ERRORS, 'version_not_found', 'version_not_usable'] as const;

export const putCertificateChain = defineRoute({
  ...change,
  method: 'PUT',
  id: 'putCertificateChain',
  operation: 'versions.put-certificates',
  summary: 'Stores the certificate chain of a version, in place of the one before.',
  body: z
    .strictObject({
      pem: z.string().min(1).max(MAX_CHAIN_TEXT).meta({
        description: 'Strict PEM (RFC 7468) of one to ten certificates, leaf first.',
      }),
    })
    .meta({ id: 'CertificateChainRequest' }),
  errors: [...ERRORS, 'wrong_purpose'],
});

export const deleteCertificateChain = defineRoute({
  ...change,
  method: 'DELETE',
  id: 'deleteCertificateChain',
  operation: 'versions.delete-certificates',
  summary: 'Removes the certificate chain of a version.',
  errors: ERRORS,
});
