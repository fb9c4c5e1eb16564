/** The part of the schema about the audit log: its name, where its checkpoints go, and who witnesses it. */
import { z } from 'zod';
import { isNoteName, parseVkey } from '../audit/notes.ts';

const described = <T extends z.ZodType>(schema: T, description: string, meta: object = {}): T =>
  schema.meta({ description, ...meta });

const noteName = z
  .string()
  .refine(isNoteName, 'must be a URL without its schema, without spaces or plus, 255 bytes at most')
  .refine((text) => !text.includes('://'), 'has no schema (https://)');

const vkey = z.string().refine((text) => parseVkey(text) !== null, {
  message: 'is no C2SP vkey of an Ed25519 or ML-DSA-44 key',
});

const httpUrl = z.url({ protocol: /^https?$/u });

const target = z
  .strictObject({
    folder: z.string().min(1).optional(),
    url: httpUrl.optional(),
    method: z.enum(['PUT', 'POST']).optional(),
    tokenFile: z.string().min(1).optional(),
  })
  .refine(
    ({ folder, url }) => (folder === undefined) !== (url === undefined),
    'takes exactly one of folder and url',
  )
  .refine(
    ({ folder, method, tokenFile }) =>
      folder === undefined || (method === undefined && tokenFile === undefined),
    'takes method and tokenFile with a url only',
  );

const witness = z.strictObject({ url: httpUrl, vkeys: z.array(vkey).min(1).max(8) });

/** Keys of one log: all have its name. */
const witnessed = z
  .strictObject({ vkeys: z.array(vkey).min(1).max(32) })
  .refine(
    ({ vkeys }) => new Set(vkeys.map((text) => parseVkey(text)?.name)).size === 1,
    'lists keys of several logs: each log has an item of its own',
  )
  .refine(
    ({ vkeys }) => vkeys.some((text) => parseVkey(text)?.type === 0x01),
    'lists no Ed25519 key of the log',
  );

/** @param listener the settings of a listener, as the others have them */
export const auditSchema = <
  H extends z.ZodType,
  P extends z.ZodType,
  T extends z.ZodType,
>(listener: {
  readonly host: H;
  readonly port: P;
  readonly tls: T;
}) =>
  z
    .strictObject({
      origin: described(
        noteName.optional(),
        "Name of the audit log, as a URL without its schema; for the log's life. Default: the one it has, for a new log `twofold.invalid/` and the id of the installation.",
      ),
      publicCheckpoint: described(
        z.boolean().default(false),
        'Whether anybody may read the newest checkpoint, at `/public/log/checkpoint`, without a token.',
      ),
      publishTo: described(
        z.array(target).max(8).default([]),
        'Where new checkpoints are copied to: `folder`, or `url` with `method` (`PUT`, the default, for an object, or `POST`) and `tokenFile` (bearer token, mode 0640 at most). JSON in the environment.',
        { flag: false },
      ),
      witnesses: described(
        z.array(witness).max(16).default([]),
        'Witnesses that cosign checkpoints: `url` (to which `/add-checkpoint` is appended) and `vkeys`. JSON in the environment.',
        { flag: false },
      ),
      witness: z
        .strictObject({
          name: described(
            noteName,
            'Makes this instance a witness of other logs, under this name: a URL without its schema.',
          ),
          logs: described(
            z.array(witnessed).min(1).max(64),
            'Logs that it witnesses: `vkeys`, all keys of one log. JSON in the environment.',
            { flag: false },
          ),
          host: described(
            listener.host,
            'Address of the listener that takes `POST /add-checkpoint`.',
          ),
          port: described(listener.port, 'Its port; 0 takes a free one.'),
          tls: listener.tls,
        })
        .optional(),
      acceptRollback: z
        .strictObject({
          checkpoints: described(
            z
              .array(z.string().regex(/^[0-9a-f]{64}$/u, 'must be 64 hex digits'))
              .min(1)
              .max(64),
            'Checkpoints that a restored database does not reach and that are given up: SHA-256 of each, as the refusal to start names it. JSON in the environment.',
            { flag: false },
          ),
          reason: described(z.string().min(1).max(256), 'Why; the log says so.'),
        })
        .optional(),
    })
    .prefault({});
