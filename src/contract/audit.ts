/** The audit log as auditors read it. */
import { z } from 'zod';

import { PAGING, page } from './answer.ts';
import { defineRoute } from './route.ts';
import { base64, publicBytes, time } from './scalars.ts';

const plain = z.union([z.string(), z.number(), z.boolean(), z.null()]);

export const auditEntry = z
  .object({
    id: z.string().meta({ description: '`<lane>-<n>`.', examples: ['1-42'] }),
    version: z.int().meta({
      description: 'Of its bytes. Members that version 1 has not are empty or null.',
      examples: [2],
    }),
    at: time,
    zone: z.string(),
    requestId: z.string(),
    operation: z.string(),
    outcome: z.string().meta({ description: '`ok` or an error code.' }),
    namespace: z.string(),
    actor: z.object({
      issuer: z.string(),
      subject: z.string(),
      method: z.enum(['jwt', 'mtls', 'system', 'bootstrap', 'break-glass']),
      session: base64('First 16 bytes of SHA-256 of the token.').nullable(),
      acr: z
        .string()
        .nullable()
        .meta({ description: 'Authentication context class, as the token says it.' }),
      amr: z.array(z.string()).meta({ description: 'Authentication methods (RFC 8176).' }),
      roles: z
        .array(z.string())
        .nullable()
        .meta({ description: 'When it was decided; null: not known.' }),
    }),
    key: z.object({
      reference: z.string().nullable().meta({ description: 'As the request named it.' }),
      id: z.string().nullable(),
      version: z.int().nullable(),
      suite: z.int().nullable().meta({ description: 'Suite number.' }),
    }),
    decision: z
      .object({ revision: z.string(), policies: z.array(z.string()) })
      .nullable()
      .meta({ description: 'The policies that decided.' }),
    grantId: z.string().nullable().meta({ description: 'What was lent, if that permitted it.' }),
    approvalId: z
      .string()
      .nullable()
      .meta({ description: 'The approval that it was carried out under.' }),
    source: z.string(),
    tlsGroup: z
      .string()
      .nullable()
      .meta({ description: 'Of the key agreement of the connection, as IANA names it.' }),
    engine: z.enum(['native', 'portable', 'token']).nullable().meta({
      description: 'Who computed the post-quantum half; `token`: the suite has none.',
    }),
    origin: z
      .enum(['anyone', 'service'])
      .nullable()
      .meta({ description: 'Of what was opened: who can have made it.' }),
    durationUs: z
      .int()
      .nullable()
      .meta({
        description:
          'Microseconds from the head of the request to the making of this entry, which was durable ' +
          'before the answer left.',
      }),
    contextKeys: z.array(z.string()),
    contextValues: z.record(z.string(), z.string()).meta({
      description: 'Of the names that the namespace declares loggable.',
    }),
    contextHmac: base64(
      'HMAC of the encryption context; of version 1, of encryption context and aad.',
    ).nullable(),
    aadHmac: base64('HMAC of the aad.').nullable(),
    items: z
      .array(
        z.object({
          keyVersion: z.int().nullable(),
          outcome: z.string(),
          hash: base64(
            'What the item was for, under the audit key: `itemHash` of `POST /v1/audit/hash`, 16 bytes. ' +
              'Of entries from before items had a key: of SHA-256 over `ref` and context.',
          ),
        }),
      )
      .meta({ description: 'Of a batch, in request order.' }),
    detail: z.record(z.string(), plain).meta({
      description:
        'Facts of the operation. Of a change: `keyRevision` and `versionRevision` after it, and ' +
        '`changed`, JSON text of each changed field with its value before and after.',
    }),
    leafHash: base64('SHA-256(0x00 || body), RFC 6962.'),
    body: base64('The canonical bytes of the entry.'),
  })
  .meta({ id: 'AuditEntry' });

const short = z.string().min(1).max(256).optional();
/** The database knows no year 0, and an offset can lead out of the years that RFC 3339 has. */
const isInYears = (time: Date): boolean => {
  const year = time.getUTCFullYear();
  return year >= 1 && year <= 9999;
};

export const moment = (description: string) =>
  z.iso
    .datetime({ offset: true, message: 'must be an RFC 3339 time' })
    .transform((value) => new Date(value))
    .refine(isInYears, 'must be in the years 1 to 9999')
    .optional()
    .meta({ description, override: { type: 'string', format: 'date-time' } });

const hmac = (description: string) => publicBytes({ min: 32, max: 32, description }).optional();

export const listAuditEntries = defineRoute({
  method: 'GET',
  plane: 'use',
  id: 'listAuditEntries',
  path: '/v1/audit/entries',
  operation: 'audit.read',
  summary: 'Lists audit entries of the namespace, newest first.',
  query: z.strictObject({
    ...PAGING,
    operation: short,
    key: short.meta({ description: 'The key as requests named it.' }),
    keyId: z.guid('must be a UUID').toLowerCase().optional(),
    subject: short,
    outcome: short,
    from: moment('Entries at this time or later.'),
    until: moment('Entries before this time.'),
    contextHmac: hmac('As `POST /v1/audit/hash` gives it.'),
    aadHmac: hmac('As `POST /v1/audit/hash` gives it.'),
    context: z
      .record(z.string().min(1).max(256), z.string().max(4096))
      .optional()
      .meta({
        description:
          'As `context.<name>=<value>`, of names that the namespace declares loggable. Like the ' +
          'HMACs looked for among the entries that the other filters find, 1024 a page: a page may be ' +
          'short of entries, or empty, before the end.',
        'x-prefix': 'context.',
      }),
  }),
  response: page(auditEntry, 'AuditPage'),
  errors: ['not_found', 'invalid_base64'],
});

export const getAuditEntry = defineRoute({
  method: 'GET',
  plane: 'use',
  id: 'getAuditEntry',
  path: '/v1/audit/entries/{id}',
  operation: 'audit.read',
  summary: 'One audit entry.',
  params: z.strictObject({ id: z.string().meta({ description: '`<lane>-<n>`.' }) }),
  response: auditEntry,
  errors: ['not_found', 'entry_archived'],
});
