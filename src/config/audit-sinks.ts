/** The part of the schema about the receivers that the audit log is copied to. */
import { z } from 'zod';

const path = z.string().min(1);

export const SINK_NAME = /^[a-z][a-z0-9-]{0,31}$/u;

/** Stands in positions, metrics and entries. */
const name = z.string().regex(SINK_NAME, 'must be a lower-case word of at most 32 characters');

const from = z.enum(['start', 'now']).default('start');

const post = {
  name,
  from,
  url: z.url({ protocol: /^https?$/u }),
  caFile: path.optional(),
  tokenFile: path.optional(),
};

const MEBIBYTE = 1_048_576;

export const sinkSchema = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('file'),
    name,
    path,
    rotateBytes: z
      .int()
      .min(MEBIBYTE)
      .default(128 * MEBIBYTE),
    keep: z.int().min(1).max(1_000).default(16),
  }),
  z
    .strictObject({
      type: z.literal('syslog'),
      name,
      from,
      host: z.string().min(1).max(253),
      port: z.int().min(1).max(65_535).default(6_514),
      serverName: z.string().min(1).max(253).optional(),
      caFile: path.optional(),
      certificateFile: path.optional(),
      keyFile: path.optional(),
      facility: z.int().min(0).max(23).default(13),
    })
    .refine(
      ({ certificateFile, keyFile }) => (certificateFile === undefined) === (keyFile === undefined),
      'takes certificateFile and keyFile together',
    ),
  z.strictObject({ type: z.literal('http'), ...post, hmacKeyFile: path.optional() }),
  z.strictObject({ type: z.literal('otlp'), ...post }),
]);

export type SinkSettings = z.infer<typeof sinkSchema>;
