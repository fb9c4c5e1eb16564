/** Denied tokens, subjects, issuers and certificates of a namespace; those of the root hold in all. */
import { z } from 'zod';

import { STORED_ERRORS, changeOf } from './admin-keys.ts';
import { PAGING, page } from './answer.ts';
import { defineRoute } from './route.ts';
import { comingTime, text, time } from './scalars.ts';

const MAX_NAME = 255;

const hex = (digits: string, description: string) =>
  z
    .string()
    .regex(new RegExp(`^${digits}$`), 'must be lower-case hex')
    .meta({ description });

const target = {
  tokenId: text(MAX_NAME, 'The `jti` of a token; alone.').optional(),
  issuer: text(1024, 'Name of an issuer; alone, or with `subject` or `serial`.').optional(),
  subject: text(MAX_NAME, 'A subject of the issuer.').optional(),
  certificate: hex('[0-9a-f]{64}', 'SHA-256 of a certificate, lower-case hex; alone.').optional(),
  serial: hex(
    '(?:0|[1-9a-f][0-9a-f]{0,39})',
    'Serial number of a certificate of the issuer, lower-case hex without leading zeros.',
  ).optional(),
};

const denial = {
  id: z.string().meta({ description: 'The same for the same target.' }),
  kind: z.enum(['token', 'subject', 'issuer', 'certificate', 'serial']),
  tokenId: z.string().optional(),
  issuer: z.string().optional(),
  subject: z.string().optional(),
  certificate: z.string().optional(),
  serial: z.string().optional(),
  reason: z.string(),
  expiresAt: time.nullable(),
  issuedBefore: time.nullable(),
  state: z.enum(['active', 'expired']),
  updatedAt: time,
  updatedBy: z.object({ issuer: z.string(), subject: z.string() }),
  revision: z.int().meta({ description: 'For If-Match.' }),
} as const;
export const denialResource = z.object(denial).meta({ id: 'Denial' });

/** What a dry run shows has no revision and no time yet. */
const changed = z
  .object({ ...denial, deleted: z.literal(true).optional(), dryRun: z.literal(true).optional() })
  .meta({ id: 'ChangedDenial' });

const params = z.strictObject({
  denial: z
    .string()
    .regex(/^[0-9a-f]{32}$/, 'must be the id of a denial')
    .meta({ description: 'Id of the denial.' }),
});
const path = '/v1/admin/denials/{denial}';
const change = { ...changeOf(params), operation: 'denials.change', response: changed } as const;

export const listDenials = defineRoute({
  plane: 'admin',
  operation: 'denials.read',
  method: 'GET',
  id: 'listDenials',
  path: '/v1/admin/denials',
  summary: 'Denials of the namespace, by id.',
  query: z.strictObject(PAGING),
  response: page(denialResource, 'DenialList'),
  errors: ['integrity_failed'],
});

export const getDenial = defineRoute({
  plane: 'admin',
  operation: 'denials.read',
  method: 'GET',
  id: 'getDenial',
  path,
  summary: 'One denial.',
  params,
  response: denialResource,
  errors: ['not_found', 'integrity_failed'],
});

export const createDenial = defineRoute({
  ...change,
  ...changeOf(z.strictObject({})),
  method: 'POST',
  id: 'createDenial',
  path: '/v1/admin/denials',
  summary:
    'Denies a token, subject, issuer or certificate at once; again: says anew why and how long.',
  body: z
    .strictObject({
      ...target,
      reason: text(512, 'Why; kept with the denial and in the audit log.'),
      expiresAt: comingTime.optional().meta({ description: 'When it ends by itself (RFC 3339).' }),
      issuedBefore: z.iso.datetime({ offset: true }).max(40).optional().meta({
        description:
          'Of a subject or issuer: only what was issued before this (RFC 3339), or does not say when.',
      }),
    })
    .meta({ id: 'DenialRequest' }),
  status: 201,
  also: { 200: 'With `dryRun=true`: what would be denied.' },
  errors: [...STORED_ERRORS, 'would_lock_out', 'quota_exceeded'],
});

export const deleteDenial = defineRoute({
  ...change,
  method: 'DELETE',
  id: 'deleteDenial',
  path,
  summary: 'Takes a denial back.',
  errors: [...STORED_ERRORS, 'not_found'],
});
