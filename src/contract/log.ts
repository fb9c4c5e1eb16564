/**
 * The log as a whole: checkpoints, tiles (C2SP tlog-tiles), entries by index, proofs, and what a verifier
 * compares with them. It holds entries of every namespace and is asked for in the root namespace, but
 * for an entry's own proof and the stream, which are of one namespace.
 */
import { z } from 'zod';

import { PAGING, page } from './answer.ts';
import { auditEntry, moment } from './audit.ts';
import { defineRoute, headers } from './route.ts';
import { base64, time } from './scalars.ts';

/** As far as numbers are exact. */
const INDEX = /^(?:0|[1-9]\d{0,14})$/u;

const index = (description: string) =>
  z
    .string()
    .regex(INDEX, 'must be an index of the log')
    .transform(Number)
    .meta({ description, override: { type: 'string' } });

const read = { method: 'GET', plane: 'use', operation: 'audit.log' } as const;
const ERRORS = ['not_found', 'entry_archived'] as const;

export const getCheckpoint = defineRoute({
  ...read,
  id: 'getCheckpoint',
  path: '/v1/audit/checkpoint',
  summary: 'The newest checkpoint, a signed note (C2SP tlog-checkpoint).',
  gives: ['text/plain'],
  response: z.string(),
  errors: ERRORS,
});

export const listCheckpoints = defineRoute({
  ...read,
  id: 'listCheckpoints',
  path: '/v1/audit/checkpoints',
  summary: 'Checkpoints that were committed, by size, the smallest first.',
  query: z.strictObject({
    size: index('Checkpoints of at least this size.').optional(),
    pageSize: PAGING.pageSize,
  }),
  response: z
    .object({
      items: z.array(
        z.object({
          size: z.int().meta({ description: 'Entries of the tree.' }),
          note: z.string().meta({ description: 'The whole signed note.' }),
          at: time.meta({ description: 'When it was committed, by the clock of the database.' }),
        }),
      ),
      next: z
        .int()
        .nullable()
        .meta({ description: 'Give it as `size` to go on; null at the end.' }),
    })
    .meta({ id: 'CheckpointPage' }),
  errors: ERRORS,
});

export const getLogTile = defineRoute({
  ...read,
  id: 'getLogTile',
  path: '/v1/audit/tile/{level}/{tile}',
  spans: 'tile',
  summary: 'A tile of the log (C2SP tlog-tiles): hashes of a level, or entries.',
  // Which forms there are is one with what is looked up: `audit/tree/tiles.ts` says it.
  params: z.strictObject({
    level: z.string().max(7).meta({
      description: '0 to 6: hashes of 32 bytes. `entries`: each after its length (uint16).',
    }),
    tile: z.string().max(40).meta({
      description: '`x001/x234/067` for 1234067; `.p/<width>` after it for one that is not full.',
    }),
  }),
  gives: ['application/octet-stream'],
  response: z.string(),
  errors: ERRORS,
});

export const logEntry = z
  .object({
    index: z.int().meta({ description: 'Place in the log, from 0.' }),
    ...auditEntry.shape,
  })
  .meta({ id: 'LogEntry' });

export const listLogEntries = defineRoute({
  ...read,
  id: 'listLogEntries',
  path: '/v1/audit/log',
  summary: 'Entries of every namespace in the order of the log.',
  query: z.strictObject({
    from: index('The first entry; 0 when absent.').optional(),
    pageSize: PAGING.pageSize,
  }),
  response: z
    .object({
      items: z.array(logEntry),
      next: z.int().nullable().meta({
        description: 'Give it as `from` to go on; null where the log ends now.',
      }),
    })
    .meta({ id: 'LogPage' }),
  errors: ERRORS,
});

export const getConsistencyProof = defineRoute({
  ...read,
  id: 'getConsistencyProof',
  path: '/v1/audit/consistency',
  summary: 'Proof that a tree of the log is the beginning of a later one (RFC 9162, 2.1.4).',
  query: z.strictObject({
    from: index('Size of the earlier tree.'),
    to: index('Size of the later tree, at most that of the newest checkpoint.'),
  }),
  response: z
    .object({
      from: z.int(),
      to: z.int(),
      proof: z.array(base64('A hash of 32 bytes.')),
    })
    .meta({ id: 'ConsistencyProof' }),
  errors: ERRORS,
});

export const getEntryProof = defineRoute({
  method: 'GET',
  plane: 'use',
  operation: 'audit.read',
  id: 'getEntryProof',
  path: '/v1/audit/entries/{id}/proof',
  summary:
    'Proof that an entry is in the log: its index, hashes and the checkpoint (C2SP tlog-proof).',
  params: z.strictObject({ id: z.string().meta({ description: '`<lane>-<n>`.' }) }),
  gives: ['text/plain'],
  response: z.string(),
  errors: ['not_found', 'not_integrated_yet', 'entry_archived'],
});

const versionState = z.object({
  version: z.int(),
  revision: z.int(),
  state: z.string(),
});

export const keyState = z
  .object({
    keyId: z.string(),
    namespace: z.string(),
    name: z.string(),
    revision: z.int(),
    state: z.string().meta({
      description:
        'As of the key; `altered` where its MACs do not attest its rows: then no other value is one.',
    }),
    primary: z.int().nullable(),
    minUsableVersion: z.int(),
    latestVersion: z.int(),
    versions: z.array(versionState),
  })
  .meta({ id: 'KeyState' });

export const listKeyStates = defineRoute({
  ...read,
  id: 'listKeyStates',
  path: '/v1/audit/key-states',
  summary: 'Keys and versions of every namespace as they are stored now, by id of the key.',
  query: z.strictObject(PAGING),
  response: page(keyState, 'KeyStatePage'),
  errors: ERRORS,
});

export const lane = z
  .object({
    lane: z.int(),
    kind: z.enum(['use', 'change']),
    instance: z.string(),
    closed: z.boolean(),
    next: z.int().meta({ description: 'Number of the next entry that the log takes from it.' }),
  })
  .meta({ id: 'Lane' });

export const listLanes = defineRoute({
  ...read,
  id: 'listLanes',
  path: '/v1/audit/lanes',
  summary: 'Lanes, in which entries stand until the log takes them, by number.',
  query: z.strictObject(PAGING),
  response: page(lane, 'LanePage'),
  errors: ERRORS,
});

const short = z.string().min(1).max(256).optional();

export const streamAuditEntries = defineRoute({
  method: 'GET',
  plane: 'use',
  operation: 'audit.read',
  id: 'streamAuditEntries',
  path: '/v1/audit/stream',
  summary: 'Sends entries of the namespace as the log takes them (server-sent events).',
  query: z.strictObject({
    from: index('From this index on.').optional(),
    since: moment('Entries of this time or later; without it and `from`, what comes from now on.'),
    follow: z
      .enum(['true', 'false'])
      .transform((value) => value === 'true')
      .optional()
      .meta({
        description: '`false`: end with what the log holds now. `true` when absent.',
        override: { type: 'string', enum: ['true', 'false'] },
      }),
    operation: short,
    key: short.meta({ description: 'The key as requests named it.' }),
    keyId: z.guid('must be a UUID').toLowerCase().optional(),
    subject: short,
    outcome: short,
  }),
  headers: headers({
    'last-event-id': index(
      'Goes before `from`: the entry after this one, where a client left off.',
    ).optional(),
  }),
  gives: ['text/event-stream'],
  response: z.string().meta({
    description:
      'Each `data` is an entry with its `index`, and each `id` an index. An `id` without `data` says how ' +
      'far nothing was to be sent. An event named `problem` is the last one and says why the stream ends.',
  }),
  errors: ['not_found', 'quota_exceeded'],
});
