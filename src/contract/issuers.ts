/** Issuers of tokens and client certificates that a namespace lets in; those of the root that are shared are let in everywhere. */
import { z } from 'zod';

import { STORED_ERRORS, changeOf } from './admin-keys.ts';
import { PAGING, page } from './answer.ts';
import { defineRoute } from './route.ts';
import { keyName, text, time } from './scalars.ts';

const MAX_PEM = 65_536;
const MAX_MAPPINGS = 256;
const MAX_ROLES = 64;

const url = text(1024, 'URL.');
const thumbprint = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be a SHA-256 thumbprint');
const mapping = z.strictObject({
  subject: text(
    255,
    'A subject, or all that begin so: with `*` at its end, after one of `/ : @ . #`.',
  ),
  roles: z.array(text(128, 'Name of a role.')).min(1).max(MAX_ROLES),
});
/** Members of a key are those of its type, and unknown ones are ignored (RFC 7517). */
const keySet = z.strictObject({
  keys: z
    .array(z.looseObject({ kty: z.string() }))
    .min(1)
    .max(100),
});

const given = {
  issuer: url.meta({ description: 'The `iss` of its tokens, character by character.' }),
  audience: text(1024, 'Must be, or be among, the `aud` of a token.'),
  algorithms: z.array(z.string().max(16)).min(1).max(14).meta({
    description: 'JOSE names of asymmetric algorithms.',
  }),
} as const;

/** Of `mtls` alone. */
const vouching = {
  authorities: z.string().min(1).max(MAX_PEM).meta({
    description:
      'PEM of one to ten authorities. Each is an anchor by itself: what it signed is taken, and no path is looked for.',
  }),
  subject: z.enum(['spiffe', 'dns', 'email', 'commonName', 'distinguishedName']).meta({
    description:
      'The kind of name (subjectAltName) that is the subject, and must be there once; or of the ' +
      "certificate's own subject its one common name, or all of it as RFC 4514 writes it. Of a stored issuer it stays.",
  }),
  trustDomain: z
    .string()
    .regex(/^[a-z0-9._-]{1,255}$/, 'must be a SPIFFE trust domain')
    .meta({ description: 'Of `spiffe`: the only trust domain that is taken.' }),
} as const;

const issuer = {
  name: z.string().nullable().meta({ description: 'Null for one of the configuration.' }),
  source: z.enum(['stored', 'configuration']).meta({
    description: '`configuration`: let in everywhere, and changed there alone.',
  }),
  kind: z.enum(['oidc', 'kubernetes', 'mtls']),
  issuer: given.issuer,
  audience: given.audience.nullable().meta({ description: 'Null for `mtls`.' }),
  algorithms: z.array(z.string()).meta({ description: 'Empty for `mtls`.' }),
  rolesClaim: z.string().nullable(),
  keys: z.enum(['discovery', 'url', 'inline', 'file', 'authorities']),
  jwksUrl: z.string().nullable(),
  jwks: z.object({ keys: z.array(z.looseObject({})) }).nullable(),
  ca: z.string().nullable(),
  pinned: z.array(z.string()),
  maxLifetime: z.int().nullable(),
  clockTolerance: z.int().nullable(),
  authorities: z.string().nullable().meta({
    description: 'PEM of a stored issuer of client certificates; else null.',
  }),
  subject: vouching.subject.nullable(),
  trustDomain: z.string().nullable(),
  roles: z.array(z.object({ subject: z.string(), roles: z.array(z.string()) })),
  shared: z.boolean(),
  updatedAt: time.nullable(),
  updatedBy: z.object({ issuer: z.string(), subject: z.string() }).nullable(),
  revision: z.int().meta({ description: 'For If-Match; 0 for one of the configuration.' }),
} as const;
export const issuerResource = z.object(issuer).meta({ id: 'Issuer' });

const check = z
  .object({
    usable: z.boolean(),
    problem: z.string().nullable().meta({ description: 'Why its keys cannot be used.' }),
    keys: z.array(
      z.object({
        keyId: z.string().nullable(),
        thumbprint: z.string(),
        algorithms: z.array(z.string()),
      }),
    ),
    authorities: z
      .array(
        z.object({
          subject: z.string(),
          fingerprint: z.string().meta({ description: 'SHA-256 of the certificate, hex.' }),
          keyFingerprint: z.string().meta({ description: 'SHA-256 of its public key, hex.' }),
          notBefore: time,
          notAfter: time,
        }),
      )
      .optional()
      .meta({ description: 'Of `mtls`.' }),
  })
  .meta({
    id: 'IssuerCheck',
    description: 'What a fetch that was just made, or the authorities, would let in.',
  });
const changed = z
  .object({
    ...issuer,
    check: check.optional(),
    deleted: z.literal(true).optional(),
    dryRun: z.literal(true).optional(),
  })
  .meta({ id: 'ChangedIssuer' });

const params = z.strictObject({ name: keyName.meta({ description: 'Name of the issuer here.' }) });
const path = '/v1/admin/issuers/{name}';
const change = { ...changeOf(params), operation: 'issuers.change', response: changed } as const;

export const listIssuers = defineRoute({
  plane: 'admin',
  operation: 'issuers.read',
  method: 'GET',
  id: 'listIssuers',
  path: '/v1/admin/issuers',
  summary: 'Issuers of the configuration, and those stored in the namespace by name.',
  query: z.strictObject(PAGING),
  response: page(issuerResource, 'IssuerList'),
  errors: ['integrity_failed'],
});

export const getIssuer = defineRoute({
  plane: 'admin',
  operation: 'issuers.read',
  method: 'GET',
  id: 'getIssuer',
  path,
  summary: 'One stored issuer.',
  params,
  response: issuerResource,
  errors: ['not_found', 'integrity_failed'],
});

export const putIssuer = defineRoute({
  ...change,
  method: 'PUT',
  id: 'putIssuer',
  path,
  summary: 'Lets an issuer in at once, or changes how; a dry run fetches its keys and shows them.',
  body: z
    .strictObject({
      kind: z.enum(['oidc', 'kubernetes', 'mtls']).optional().meta({
        description:
          '`kubernetes`: of service-account tokens; `mtls`: of client certificates, with `authorities`, `subject` and `trustDomain` in place of what is of tokens; without it `oidc`.',
      }),
      issuer: given.issuer.meta({
        description:
          'The `iss` of its tokens, character by character; of `mtls` the issuer of its principals, an https, spiffe or urn URI.',
      }),
      audience: given.audience.optional().meta({ description: 'Of tokens, where it is required.' }),
      algorithms: given.algorithms
        .optional()
        .meta({ description: 'JOSE names of asymmetric algorithms; required of tokens.' }),
      authorities: vouching.authorities.optional(),
      subject: vouching.subject.optional(),
      trustDomain: vouching.trustDomain.optional(),
      rolesClaim: text(128, 'Claim that holds the roles; `roles` unless given.').optional(),
      jwksUrl: url
        .optional()
        .meta({ description: 'Where its JWK Set is; without it and `jwks` by OpenID discovery.' }),
      jwks: keySet.optional().meta({ description: 'Its JWK Set itself, public keys alone.' }),
      ca: z.string().min(1).max(MAX_PEM).optional().meta({
        description: 'PEM authorities of the certificate of where its keys are fetched.',
      }),
      pinned: z.array(thumbprint).min(1).max(100).optional().meta({
        description: 'RFC 7638 thumbprints of the only keys that are taken, whatever the set says.',
      }),
      maxLifetime: z.int().min(1).max(31_536_000).optional().meta({
        description: 'Longest `exp - iat` of a token, seconds.',
      }),
      clockTolerance: z.int().min(0).max(60).optional().meta({
        description: 'How far its clock and ours may differ, seconds.',
      }),
      roles: z.array(mapping).max(MAX_MAPPINGS).optional().meta({
        description: 'Roles by subject, beside those of the claim.',
      }),
      shared: z.boolean().optional().meta({
        description: 'Of the root namespace: whether its tokens are good in every namespace.',
      }),
    })
    .meta({ id: 'IssuerRequest' }),
  errors: [...STORED_ERRORS, 'already_exists', 'precondition_required', 'quota_exceeded'],
});

export const deleteIssuer = defineRoute({
  ...change,
  method: 'DELETE',
  id: 'deleteIssuer',
  path,
  summary: 'Ends every token of a stored issuer at once.',
  errors: [...STORED_ERRORS, 'not_found', 'would_lock_out'],
});
