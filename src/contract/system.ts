/** Routes about the service itself: health, the caller, suites, randomness. */
import { z } from 'zod';

import { defineRoute } from './route.ts';
import { secretBase64, standardReference, suiteId, time } from './scalars.ts';

export const health = defineRoute({
  method: 'GET',
  plane: 'public',
  operation: null,
  id: 'health',
  path: '/healthz',
  summary: 'Answers 200 as long as the process serves at all.',
  response: z.object({ status: z.literal('ok') }).meta({ id: 'Health' }),
  errors: [],
});

export const readiness = z
  .object({
    ready: z.boolean(),
    checks: z.array(
      z.object({
        name: z.string(),
        ready: z.boolean(),
        state: z.string().meta({ description: 'One stable word.' }),
      }),
    ),
    workers: z
      .object({ ready: z.int().min(0), of: z.int().min(1) })
      .optional()
      .meta({ description: 'Where several processes serve this address: how many are ready.' }),
  })
  .meta({ id: 'Readiness' });

export const ready = defineRoute({
  method: 'GET',
  plane: 'public',
  operation: null,
  id: 'ready',
  path: '/readyz',
  summary: 'Whether requests can be served; 503 with the same body when not.',
  also: { 503: 'Not ready; `checks` says what is not.' },
  response: readiness,
  errors: [],
});

export const openapi = defineRoute({
  method: 'GET',
  plane: 'public',
  operation: null,
  id: 'openapi',
  path: '/openapi.yaml',
  summary: 'This document, as `application/yaml`.',
  gives: ['application/yaml'],
  response: z.string(),
  errors: [],
});

export const whoami = defineRoute({
  method: 'GET',
  plane: 'use',
  operation: 'whoami',
  id: 'whoami',
  path: '/v1/whoami',
  summary: 'The principal that the token names.',
  response: z
    .object({
      issuer: z.string(),
      subject: z.string(),
      method: z.enum(['jwt', 'mtls', 'system', 'bootstrap', 'break-glass']),
      roles: z.array(z.string()),
      expiresAt: time,
      namespace: z.string(),
    })
    .meta({ id: 'Whoami' }),
  errors: ['not_found'],
});

const part = z.object({
  half: z.enum(['classical', 'post-quantum']),
  algorithm: z.string(),
  publicKeyLength: z.int(),
  privateKeyLength: z.int().nullable().meta({
    description:
      'In the form of its standard (ML-KEM: the expanded dk of FIPS 203); null where that differs from key to key (RSA).',
  }),
  seedLength: z.int().nullable().meta({
    description:
      'Of the seed that is stored, sealed, in place of a private key in software; null for a half in the HSM.',
  }),
});

export const suiteResource = z
  .object({
    id: suiteId,
    number: z.int().meta({ description: 'Of envelopes; one construction for ever.' }),
    purposes: z.array(z.enum(['wrap', 'kem', 'sign', 'mac'])),
    status: z.enum(['offered', 'experimental']),
    standard: standardReference,
    strength: z.object({
      category: z.int().nullable().meta({
        description: 'NIST security category, 1 to 5; null without a post-quantum claim.',
      }),
      quantumVulnerable: z.boolean(),
    }),
    standings: z.array(z.enum(['cnsa2', 'cnsa2-strength', 'approved'])).meta({
      description:
        '`cnsa2`: listed in CNSA 2.0; `cnsa2-strength`: of that strength, not listed; `approved`: every algorithm approved by NIST, which says nothing about validated modules.',
    }),
    parts: z.array(part).meta({ description: 'The halves, in the order of the public key.' }),
    digest: z.string().nullable().meta({ description: 'What `digest` must be for `sign`.' }),
    takes: z
      .object({ context: z.boolean(), mu: z.boolean() })
      .nullable()
      .meta({ description: 'Whether `sign` takes a `signatureContext`, and an external mu.' }),
    sizes: z
      .object({
        publicKey: z.int().nullable(),
        privateKey: z.int().nullable(),
        seed: z.int().nullable(),
        ciphertextOverhead: z.int().nullable(),
        encapsulation: z.int().nullable(),
        signatureMax: z.int().nullable(),
        mac: z.int().nullable(),
      })
      .meta({
        description:
          'Bytes; null where not applicable. `privateKey`: of all halves in the form of their standards; `seed`: what is stored of the half in software in its place; `ciphertextOverhead`: of an envelope beyond its plaintext.',
      }),
    encoding: z.object({
      oid: z.string().nullable().meta({ description: 'Of SubjectPublicKeyInfo.' }),
      oidMissing: z.string().nullable().meta({ description: 'Why there is none.' }),
      joseAlg: z.string().nullable().meta({ description: '`alg` of JWS or JWK.' }),
      joseAlgMissing: z.string().nullable().meta({ description: 'Why there is none.' }),
    }),
    custody: z
      .object({
        postQuantum: z.literal('sealed').nullable(),
        classical: z.enum(['hsm-wrapped', 'hsm-token']).nullable(),
      })
      .meta({ description: 'Where the halves of a new version live by default on this token.' }),
    engine: z.enum(['native', 'portable']).nullable().meta({
      description: 'What computes the post-quantum half; null without one, or when nothing does.',
    }),
    muEngine: z.enum(['native', 'portable']).nullable().meta({
      description:
        'What signs and verifies over an external mu, which OpenSSL does not take; null where the suite takes none.',
    }),
    available: z.boolean().meta({ description: 'Whether the token of this zone can serve it.' }),
    unavailableReason: z.string().nullable(),
    admitted: z.boolean().meta({
      description: 'Whether the profile of this service lets it have new key versions now.',
    }),
    notAdmittedReason: z.string().nullable(),
    times: z
      .array(
        z.object({
          operation: z.string(),
          count: z.int(),
          medianMs: z.number(),
        }),
      )
      .meta({
        description:
          'What single operations took in the process that answers, since it started, without HTTP and ' +
          'audit; empty until the suite is used. Batches are left out.',
      }),
  })
  .meta({ id: 'Suite' });

export const listSuites = defineRoute({
  method: 'GET',
  plane: 'use',
  operation: 'suites.read',
  id: 'listSuites',
  path: '/v1/suites',
  summary: 'Every suite, whether this token serves it, and what is not offered and why.',
  response: z
    .object({
      items: z.array(suiteResource),
      notOffered: z.array(z.object({ name: z.string(), reason: z.string() })),
    })
    .meta({ id: 'SuiteList' }),
  errors: ['not_found'],
});

export const getSuite = defineRoute({
  method: 'GET',
  plane: 'use',
  operation: 'suites.read',
  id: 'getSuite',
  path: '/v1/suites/{suite}',
  summary: 'One suite.',
  params: z.strictObject({ suite: suiteId }),
  response: suiteResource,
  errors: ['not_found'],
});

export const random = defineRoute({
  method: 'POST',
  plane: 'use',
  operation: 'random',
  id: 'random',
  path: '/v1/random',
  summary: 'Random bytes of the HSM.',
  body: z
    .strictObject({ bytes: z.int().min(1).max(4096).meta({ description: 'How many.' }) })
    .meta({ id: 'RandomRequest' }),
  bytes: {
    member: null,
    accepts: [],
    inputs: {},
    answer: 'random',
    gives: ['application/octet-stream'],
    outputs: {},
  },
  response: z.object({ random: secretBase64('The bytes.') }).meta({ id: 'RandomAnswer' }),
  errors: ['not_found', 'hsm_unavailable', 'hsm_busy', 'hsm_full'],
});
