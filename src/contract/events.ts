/** What happened to keys, as CloudEvents 1.0 (JSON format), for consumers that must not miss one. */
import { z } from 'zod';

import { NAME } from '../name.ts';
import { PAGING } from './answer.ts';
import { defineRoute, headers } from './route.ts';
import { time, uuid } from './scalars.ts';

/** As the service names them, without the prefix that the `type` of an event begins with. */
export const EVENT_TYPES = [
  'key.created',
  'key.updated',
  'key.rotated',
  'key.primary-changed',
  'key.alias-changed',
  'key.exported',
  'key.suspended',
  'key.resumed',
  'key.rotation-policy-changed',
  'key.rotation-due',
  'key.expiring',
  'key.destruction-due',
  'key.destruction-scheduled',
  'key.destruction-cancelled',
  'key.destroyed',
  'version.activated',
  'version.deactivated',
  'version.compromised',
  'version.suspended',
  'version.resumed',
  'version.retirement-due',
  'version.retired',
  'version.scheduled',
  'version.destruction-scheduled',
  'version.destruction-cancelled',
  'version.destroyed',
  'version.certificates-changed',
  'rotation-policy.created',
  'rotation-policy.changed',
  'rotation-policy.deleted',
  'rotation-policy.paused',
  'rotation-policy.resumed',
  'rotations.paused',
  'rotations.resumed',
  'access.bootstrap-opened',
  'access.break-glass-opened',
] as const;

/** As far as numbers are exact, and within the columns. */
const PLACE = /^(?<epoch>0|[1-9]\d{0,14})-(?<n>0|[1-9]\d{0,8})$/;

/** `<epoch>-<n>`, the id of an event or a `next`, as numbers. */
export const eventPlace = z
  .string()
  .regex(PLACE, 'must be <epoch>-<n>')
  .transform((text) => {
    const [epoch = 0, n = 0] = text.split('-').map(Number);
    return { epoch, n };
  });

const eventType = z
  .templateLiteral([NAME.eventType, z.enum(EVENT_TYPES)])
  .meta({ description: 'What happened.', examples: [`${NAME.eventType}key.rotated`] });

export const cloudEvent = z
  .object({
    specversion: z.literal('1.0'),
    id: z
      .string()
      .meta({ description: '`<epoch>-<n>`: rises in the order of commits.', examples: ['42-1'] }),
    source: z.string().meta({ description: 'The installation.' }),
    type: eventType,
    subject: z.string().meta({
      description:
        'Name of the key; of `rotation-policy.…` that of the policy, of `rotations.…` that of the ' +
        'namespace, of `access.…` the kind of token.',
    }),
    time,
    datacontenttype: z.literal('application/json'),
    data: z.record(z.string(), z.unknown()).meta({
      description:
        'Facts without secrets: versions, suites, reasons, and `changed`, each changed field with ' +
        'its value before and after. Of labels only the names.',
    }),
    [NAME.eventNamespace]: z.string().meta({ description: 'Namespace of the key.' }),
    keyid: uuid.meta({
      description:
        'UUID of the key, or of the token that was opened; of `rotation-policy.…` and `rotations.…` one ' +
        'that is made of namespace and policy (version 8) and stays the same.',
    }),
    auditid: z.string().meta({ description: 'The audit entry of the change.' }),
  })
  .meta({ id: 'CloudEvent' });

const FILTER = {
  after: eventPlace.optional().meta({
    description: 'Events after this one; from the oldest that is kept when absent.',
    override: { type: 'string' },
  }),
  type: eventType.optional(),
  keyId: z.guid('must be a UUID').toLowerCase().optional(),
} as const;

export const listEvents = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'listEvents',
  path: '/v1/admin/events',
  operation: 'events.read',
  summary: 'Lists what happened to keys and rotation policies of the namespace, oldest first.',
  query: z.strictObject({ ...FILTER, pageSize: PAGING.pageSize }),
  response: z
    .object({
      items: z.array(cloudEvent),
      next: z.string().meta({ description: 'Give it as `after` to go on, now or later.' }),
      more: z.boolean().meta({
        description:
          'Whether to go on at once: the page is full, or of a filter as much was looked at as one request may; it can be short, or empty, then.',
      }),
    })
    .meta({ id: 'EventPage' }),
  errors: ['not_found', 'events_expired'],
});

export const streamEvents = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'streamEvents',
  path: '/v1/admin/events/stream',
  operation: 'events.read',
  summary:
    'Sends what happens to keys and rotation policies of the namespace as it happens (server-sent events).',
  query: z.strictObject(FILTER),
  headers: headers({
    'last-event-id': eventPlace.optional().meta({
      description: 'Goes before `after`: where a client that comes again left off.',
      override: { type: 'string' },
    }),
  }),
  gives: ['text/event-stream'],
  response: z.string().meta({
    description:
      'Each `data` is a CloudEvent and each `id` its place. An `id` without `data` says how far nothing ' +
      'was to be sent. An event named `problem` is the last one and says why the stream ends.',
  }),
  errors: ['not_found', 'events_expired', 'quota_exceeded'],
});
