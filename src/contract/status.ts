/**
 * The status of one instance, for people who look before they read. It is shown without a token, on
 * the metrics listener alone: nothing in it is secret, and it names no key, no subject, no source, no
 * address and no serial number.
 */
import { z } from 'zod';

import { defineRoute, isAnonymous } from './route.ts';
import type { RouteContract } from './route.ts';
import { suiteId, time } from './scalars.ts';
import { readiness } from './system.ts';

const count = z.int().min(0);

const hsm = z.object({
  state: z.string().meta({ description: 'One stable word.' }),
  model: z.string().nullable(),
  manufacturer: z.string().nullable(),
  firmware: z.string().nullable(),
  custody: z
    .enum(['non-extractable', 'extractableByPinHolder', 'unknown'])
    .meta({ description: 'Whether the PIN alone can take private keys out of the token.' }),
  mechanisms: z.array(z.object({ name: z.string(), available: z.boolean() })),
  queued: count.meta({ description: 'Calls that wait or run.' }),
  queueLimit: count.meta({ description: 'Over so many, calls are refused as `hsm_busy`.' }),
});

const uses = z
  .object({
    underWay: count,
    waiting: count.meta({ description: 'Those that wait for their turn.' }),
    refused: count.meta({
      description: 'Since the start, as `hsm_busy`: their turn would not have come in time.',
    }),
  })
  .meta({ description: 'Requests that use keys.' });

const database = z.object({
  kind: z
    .enum(['embedded', 'external'])
    .meta({ description: '`embedded` is the one that development brings.' }),
  version: z.string().meta({ description: 'Of PostgreSQL, when the service started.' }),
  tls: z.enum(['disable', 'require', 'verify-ca', 'verify-full']),
  state: z.string().meta({ description: 'One stable word.' }),
});

const lane = z.object({
  number: count.nullable().meta({ description: 'Null while no lane is open.' }),
  durable: count.meta({ description: 'Entries made durable by this instance.' }),
});

const audit = z.object({
  state: z.string().meta({ description: 'One stable word.' }),
  uses: lane,
  changes: lane,
  waiting: count.meta({ description: 'Entries that wait to be durable.' }),
  failures: count.meta({ description: 'Failed appends since the last success.' }),
  log: z
    .object({
      state: z.string().meta({ description: 'One stable word.' }),
      entries: count,
      unsequenced: count.meta({ description: 'Durable entries that have no index in it yet.' }),
      lanesAtFault: count.meta({
        description: 'Lanes that are not sequenced, as known to the process that leads; else 0.',
      }),
    })
    .meta({ description: 'The sequenced log, as this process knows it.' }),
  sinks: z
    .array(
      z.object({
        name: z.string(),
        state: z.enum(['serving', 'failing', 'waiting', 'left']).meta({
          description:
            '`failing`: the last delivery failed; `waiting`: another process serves it; `left`: nobody has for long, and it keeps entries from cold storage.',
        }),
        behind: count.nullable().meta({
          description: 'Entries of the log that it has not got; null where that is not known here.',
        }),
      }),
    )
    .meta({ description: 'Where entries are copied to, by the names of the configuration.' }),
});

const worker = z.object({
  worker: z
    .int()
    .min(1)
    .meta({ description: 'From 1; a process that replaces another takes it over.' }),
  instance: z.uuid().nullable().meta({ description: 'Null while it starts.' }),
  ready: z.boolean(),
  state: z.string().meta({ description: 'One stable word: what is not ready, or `ok`.' }),
  uptimeSeconds: count,
  connections: count.meta({ description: 'Open ones, of all listeners.' }),
  restarts: count.meta({ description: 'How often a process that ended was replaced.' }),
});

/** Kinds of work that are told apart; `other` reads, and what found no route. */
export const REQUEST_GROUPS = ['wrap', 'sign', 'mac', 'admin', 'other'] as const;
export type RequestGroup = (typeof REQUEST_GROUPS)[number];

const GROUP_OF: Readonly<Record<string, RequestGroup>> = {
  wrap: 'wrap',
  unwrap: 'wrap',
  rewrap: 'wrap',
  'data-keys.create': 'wrap',
  'data-keys.create-wrapped': 'wrap',
  encapsulate: 'wrap',
  decapsulate: 'wrap',
  sign: 'sign',
  verify: 'sign',
  mac: 'mac',
  'verify-mac': 'mac',
};

/** Null for what is served without a token: probes and this page would drown the rest. */
export function requestGroupOf(route: Pick<RouteContract, 'plane' | 'operation'>) {
  if (isAnonymous(route)) return null;
  if (route.plane === 'admin') return 'admin';
  return GROUP_OF[route.operation ?? ''] ?? 'other';
}

const series = (description: string) => z.array(z.number().min(0).nullable()).meta({ description });
const requests = series('Requests per second.');

const history = z
  .object({
    stepSeconds: count,
    steps: count.meta({ description: 'Most values of a series.' }),
    requests: z
      .object({ wrap: requests, sign: requests, mac: requests, admin: requests, other: requests })
      .meta({ description: 'By kind of work; a batch is one.' }),
    refused: series('Requests per second that were answered with 4xx.'),
    failed: series('Requests per second that were answered with 5xx.'),
    p50: series('Median time of a request, ms.'),
    p99: series('Time that 99 % of the requests did not exceed, ms.'),
    queued: series('Most HSM calls that waited or ran at one of the looks, one a second.'),
  })
  .meta({ description: 'One value a step, the latest last; null where nothing was measured.' });

export const statusDocument = z
  .object({
    time,
    product: z.string(),
    version: z.string(),
    mode: z.enum(['dev', 'production']),
    zone: z.string(),
    instance: z.uuid().meta({ description: 'Made anew by each start.' }),
    uptimeSeconds: count,
    runtime: z.object({ node: z.string(), openssl: z.string() }),
    readiness,
    hsm,
    uses,
    database,
    audit,
    selfTests: z
      .array(z.string())
      .meta({ description: 'Algorithms whose known answers passed at start; all of them did.' }),
    suites: z.array(z.object({ id: suiteId, available: z.boolean() })),
    history,
    workers: z.array(worker).optional().meta({
      description:
        'Where several processes serve this address. What else is here is then of all of them: sums; of the times and the failures in a row the highest; of a lane no number; `instance` is the one that answers.',
    }),
  })
  .meta({ id: 'Status' });

export type Status = z.output<typeof statusDocument>;

export const status = defineRoute({
  method: 'GET',
  plane: 'monitoring',
  operation: null,
  id: 'status',
  path: '/',
  summary: 'The status of this instance, on the metrics listener: a page, or the same as JSON.',
  query: z.strictObject({
    refresh: z
      .enum(['off'])
      .optional()
      .meta({ description: 'The page renews itself unless told not to; JSON never does.' }),
  }),
  gives: ['text/html', 'application/json'],
  response: statusDocument,
  errors: ['invalid_value'],
});
