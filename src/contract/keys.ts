/** Keys and their versions as they are read. Nothing here is secret. */
import { z } from 'zod';

import { PAGING, labelName, labelValue, page } from './answer.ts';
import { changeUses } from './change-uses.ts';
import { keyPolicyEffects } from './policy-effects.ts';
import { rotationPolicy } from './rotation-policy.ts';
import { defineRoute, keyParams, versionParams } from './route.ts';
import {
  base64,
  keyVersion,
  keyVersionText,
  standardReference,
  suiteId,
  time,
  uuid,
} from './scalars.ts';
import type { ErrorCode } from '../errors.ts';

export const PURPOSES = ['wrap', 'kem', 'sign', 'mac'] as const;
export const KEY_STATES = ['enabled', 'suspended', 'pending-destruction', 'destroyed'] as const;
export const VERSION_STATES = [
  'pre-active',
  'active',
  'suspended',
  'deactivated',
  'compromised',
  'destroyed',
] as const;

export const purpose = z.enum(PURPOSES).meta({ description: 'A key has one purpose.' });
export const custody = z.enum(['hsm-wrapped', 'hsm-token', 'sealed']).meta({
  description:
    '`hsm-wrapped`: leaves the HSM only wrapped by its root. `hsm-token`: lives and dies with one ' +
    'token. `sealed`: in software, sealed under a key of the HSM.',
});

const keyOrigin = z.enum(['generated', 'imported']).meta({
  description: '`imported`: the key itself came from outside; of a key that of its first version.',
});
const suspension = z.object({ at: time, reason: z.string() }).nullable();
const destruction = z
  .object({ at: time, requestedAt: time, reason: z.string() })
  .nullable()
  .meta({ description: 'A destruction to come; until then it can be cancelled.' });
const copies = z
  .object({
    backupsUntil: time.nullable().meta({
      description: 'Until when backups may hold it; null where the operator has not said.',
    }),
    rootGeneration: z
      .int()
      .nullable()
      .meta({
        description:
          'The newest root generation under which its material is wrapped: a copy can be opened as ' +
          'long as that exists, and one from before a rotation of the root as long as its own does. Null on one token, ' +
          'and for what was destroyed before this was kept (its audit entry says it).',
      }),
  })
  .optional()
  .meta({ description: 'What a destruction does not reach; of what is destroyed or is to be.' });
const labels = z.record(z.string(), z.string());

/** What an answer to `dryRun=true` has besides. */
const preview = {
  dryRun: z.literal(true).optional().meta({ description: 'Present when nothing was changed.' }),
  changes: z
    .array(z.object({ field: z.string(), from: z.unknown(), to: z.unknown() }))
    .optional()
    .meta({ description: 'Of a dry run: the fields that would change; of labels the names.' }),
  uses: changeUses.optional().meta({
    description:
      'Of a dry run: how much what it is about was used, by whom, and since when no more.',
  }),
  effects: keyPolicyEffects.optional().meta({
    description: 'Of a dry run of a change of its rotation policy: what that would do.',
  }),
} as const;

export const keyResource = z
  .object({
    id: uuid,
    namespace: z.string(),
    name: z.string(),
    aliases: z.array(z.string()).meta({ description: 'Further names, in byte order.' }),
    purpose,
    state: z.enum(KEY_STATES),
    suspension,
    suite: suiteId.nullable().meta({ description: 'Suite of the primary version.' }),
    primary: keyVersion.nullable().meta({ description: 'The version that protects.' }),
    latestVersion: z.int(),
    minUsableVersion: z.int().meta({ description: 'Versions below are closed for everything.' }),
    labels,
    rotation: rotationPolicy.nullable().meta({
      description: 'The key’s own policy; null leaves it to those of the namespace.',
    }),
    rotationHold: z
      .object({
        at: time,
        reason: z.string(),
        primary: keyVersion,
        policy: z.string().nullable().meta({
          description: 'A policy of the namespace; null: the key’s own.',
        }),
        policyRevision: z.int(),
      })
      .nullable()
      .meta({
        description:
          'Set when an older version was made the primary again: the policy that was in effect then ' +
          'waits, while it has this revision and the key this primary (any new revision ends it, also that ' +
          'of a pause or resumption of the policy). `POST …/rotation-policy/resume` ' +
          'ends it, also where the policy is the namespace’s. The limit of AES-GCM rotates all the same.',
      }),
    deletionProtection: z.boolean(),
    origin: keyOrigin,
    exportable: z.boolean().meta({ description: 'Whether its versions may be exported.' }),
    exports: z
      .array(
        z.object({
          version: keyVersion,
          at: time,
          recipient: z.object({ suite: suiteId, fingerprint: z.string() }),
          by: z.object({ issuer: z.string(), subject: z.string() }),
          approval: uuid,
        }),
      )
      .meta({ description: 'What has left, to whom, by whom and under which approval; for ever.' }),
    publish: z.boolean().meta({ description: 'Whether its public keys are shown at `/public/…`.' }),
    createdAt: time,
    destruction,
    destroyedAt: time.nullable(),
    copies,
    revision: z.int().meta({ description: 'Rises with every change; its ETag is `"<revision>"`.' }),
    ...preview,
  })
  .meta({ id: 'Key' });

const half = z.object({
  half: z.enum(['classical', 'post-quantum', 'symmetric']),
  algorithm: z.string(),
  custody,
  origin: z.enum(['hsm', 'software', 'imported']).meta({ description: 'Where the half was made.' }),
  extractable: z.enum(['no', 'extractableByPinHolder', 'unknown']).meta({
    description: 'What the PIN of the token alone could do to the half, as the root stands here.',
  }),
  tokenSerial: z.string().nullable().meta({ description: 'The token of an `hsm-token` half.' }),
  rootGeneration: z
    .int()
    .nullable()
    .meta({ description: 'Of the root under which it is wrapped or sealed; null on one token.' }),
});

const usableFor = z
  .array(z.enum(['protect', 'process']))
  .optional()
  .meta({
    description:
      '`protect`: to wrap, encapsulate, sign or make MACs, where the request names it or it is the ' +
      'primary. `process`: to open or verify what it made. Empty where a request gets nothing of it.',
  });

export const versionResource = z
  .object({
    key: z.string(),
    keyId: uuid,
    version: keyVersion,
    suite: suiteId,
    state: z.enum(VERSION_STATES),
    primary: z.boolean(),
    usable: z.boolean().meta({
      description:
        'Whether a request may use it for anything now, by its state, its times and its key’s ' +
        '(`minUsableVersion`, suspension, destruction). Nothing of a suspended namespace is shown.',
    }),
    usableFor,
    origin: keyOrigin,
    halves: z.array(half).meta({ description: 'Empty once destroyed.' }),
    createdAt: time,
    activateAt: time.nullable(),
    activatedAt: time.nullable(),
    deactivateAt: time.nullable(),
    deactivatedAt: time.nullable(),
    compromisedAt: time.nullable(),
    destruction,
    destroyedAt: time.nullable(),
    copies,
    suspension,
    reason: z.string().nullable(),
    certificateChain: z.string().nullable().meta({
      description:
        'SHA-256 in hexadecimal of the stored certificate chain (PEM); null without one.',
    }),
    revision: z.int(),
    ...preview,
  })
  .meta({ id: 'KeyVersion' });

export const hpkeIds = z.object({ kem: z.int(), kdf: z.int(), aead: z.int() }).meta({
  description: 'HPKE code points (RFC 9180 section 7, draft-ietf-hpke-pq); mode base.',
});

const offline = z
  .object({
    hpke: hpkeIds,
    envelopeHeader: base64('24 bytes: version, mode base, suite, key id, key version.'),
    info: z.string().meta({ description: 'How the `info` of HPKE is made.' }),
    infoPrefix: base64('What `info` begins with: label and envelope header.'),
    output: z.string().meta({ description: 'How the result is put together.' }),
  })
  .meta({ description: 'What it takes to wrap or encapsulate without asking the service.' });

const JWK_COMMON = {
  use: z.enum(['sig', 'enc']).optional(),
  kid: z.string().optional().meta({ description: '`<key UUID>.<version>`.' }),
} as const;

export const jwk = z
  .discriminatedUnion('kty', [
    z.object({
      kty: z.literal('AKP'),
      alg: z.string(),
      pub: z.string().meta({ description: 'RFC 9964: the raw public key in base64url.' }),
      ...JWK_COMMON,
    }),
    z.object({
      kty: z.literal('EC'),
      crv: z.string(),
      x: z.string(),
      y: z.string(),
      alg: z.string().optional(),
      ...JWK_COMMON,
    }),
    z.object({
      kty: z.literal('OKP'),
      crv: z.string(),
      x: z.string(),
      alg: z.string().optional(),
      ...JWK_COMMON,
    }),
    z.object({
      kty: z.literal('RSA'),
      n: z.string(),
      e: z.string(),
      alg: z.string().optional(),
      ...JWK_COMMON,
    }),
  ])
  .meta({ id: 'PublicJwk', description: 'RFC 7517, 7518, 8037 or 9964, by the suite.' });

export const publicKey = z
  .object({
    key: z.string(),
    keyId: uuid,
    keyVersion,
    suite: suiteId,
    standard: standardReference,
    format: z.enum(['pem', 'jwk', 'raw']),
    pem: z.string().optional().meta({ description: 'SPKI (RFC 5280) as PEM (RFC 7468).' }),
    jwk: jwk.optional(),
    // Optional, so that an answer that somebody pinned before they were there is still one.
    state: z.enum(VERSION_STATES).optional().meta({
      description: 'Of the version; what signs with a compromised one is not to be trusted.',
    }),
    usableFor,
    thumbprint: z.string().nullable().optional().meta({
      description: 'SHA-256 of the JWK (RFC 7638) in base64url; null where there is none.',
    }),
    sha256: z.string().nullable().optional().meta({
      description: 'SHA-256 of the DER of the SPKI in hexadecimal; null where there is none.',
    }),
    raw: base64('The halves in the order of the suite.').optional(),
    offline: offline.nullable().meta({
      description:
        'Null for keys that sign, and where `usableFor` is without `protect`: nothing is to be wrapped ' +
        'to a version that is suspended, deactivated, compromised or about to be destroyed.',
    }),
  })
  .meta({ id: 'PublicKey' });

const MISSING = ['key_not_found', 'integrity_failed'] as const satisfies readonly ErrorCode[];

/** Filters of the key list; `label.<name>` come as `labels`, collected before this schema runs. */
const listQuery = z.strictObject({
  ...PAGING,
  state: z.enum(KEY_STATES).optional(),
  suite: suiteId.optional(),
  namePrefix: z
    .string()
    .regex(/^[a-z0-9._-]{1,128}$/, 'must be the beginning of a key name')
    .optional(),
  labels: z
    .record(labelName, labelValue)
    .optional()
    .meta({ description: 'As `label.<name>=<value>`, once for each label.', 'x-prefix': 'label.' }),
});

const shared = { method: 'GET', plane: 'use', params: keyParams } as const;

export const listKeys = defineRoute({
  method: 'GET',
  plane: 'use',
  id: 'listKeys',
  path: '/v1/keys',
  operation: 'keys.list',
  summary: 'Lists the keys of the namespace by name.',
  query: listQuery,
  response: page(keyResource, 'KeyPage'),
  errors: ['not_found', 'unknown_suite', 'integrity_failed'],
});

export const getKey = defineRoute({
  ...shared,
  id: 'getKey',
  path: '/v1/keys/{key}',
  operation: 'keys.read',
  summary: 'One key.',
  response: keyResource,
  errors: MISSING,
});

export const listVersions = defineRoute({
  ...shared,
  id: 'listVersions',
  path: '/v1/keys/{key}/versions',
  operation: 'keys.read',
  summary: 'The versions of a key, oldest first.',
  query: z.strictObject(PAGING),
  response: page(versionResource, 'VersionPage'),
  errors: MISSING,
});

export const getVersion = defineRoute({
  ...shared,
  params: versionParams,
  id: 'getVersion',
  path: '/v1/keys/{key}/versions/{version}',
  operation: 'keys.read',
  summary: 'One version of a key.',
  response: versionResource,
  errors: [...MISSING, 'version_not_found'],
});

export const getPublicKey = defineRoute({
  ...shared,
  id: 'getPublicKey',
  path: '/v1/keys/{key}/public-key',
  operation: 'keys.read',
  summary: 'The public key of a version, with all that an offline wrapper needs.',
  query: z.strictObject({
    version: keyVersionText.optional().meta({ description: 'Default: the primary version.' }),
    format: z.enum(['pem', 'jwk', 'raw']).optional().meta({ description: 'Default: `pem`.' }),
  }),
  response: publicKey,
  errors: [...MISSING, 'version_not_found', 'version_not_usable', 'wrong_purpose'],
});

export const getJwks = defineRoute({
  ...shared,
  id: 'getJwks',
  path: '/v1/keys/{key}/jwks',
  operation: 'keys.read',
  summary: 'The public keys of all usable versions as a JWK set (RFC 7517).',
  response: z.object({ keys: z.array(jwk) }).meta({ id: 'JwkSet' }),
  errors: [...MISSING, 'wrong_purpose'],
});
