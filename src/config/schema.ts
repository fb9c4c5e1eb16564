/**
 * The configuration: one strict schema, from which come the types, the names of environment
 * variables and flags, and the reference page.
 *
 * A leaf is set by its key in the file, by an environment variable (`TWOFOLD_` and its path, unless
 * `env` in its metadata names another) or by a flag (`--` and its path, unless `flag` names another;
 * `flag: false` where the value is secret, because arguments are visible to every process).
 */
import { isIP } from 'node:net';
import { z } from 'zod';
import { TOKEN_ALGORITHMS } from '../access/jwk-set.ts';
import { parseDuration } from '../duration.ts';
import { lengthOf, parseDuration as parseCalendarDuration } from '../keyring/durations.ts';
import { auditSchema } from './audit.ts';
import { backupSchema } from './backup.ts';
import { kmsSchema } from './kms.ts';
import { limitsSchema } from './limits.ts';
import { parseUntil } from './until.ts';

/** What a leaf says about itself beside its type. */
export interface SettingMeta {
  readonly description: string;
  readonly env?: string;
  readonly flag?: string | false;
}

const described = <T extends z.ZodType>(schema: T, description: string, meta: object = {}): T =>
  schema.meta({ description, ...meta });

const file = z.string().min(1);
const port = (value: number) => z.int().min(0).max(65_535).default(value);

const tls = z
  .strictObject({
    certFile: described(file, 'PEM certificate chain of the listener.'),
    keyFile: described(file, 'PEM private key; may not be open to others (mode 0640 at most).'),
    caFile: described(file.optional(), 'PEM authorities of client certificates (mTLS).'),
    clientCertificates: described(
      z.enum(['require', 'request']).optional(),
      '`request`: clients may have a certificate, which `access.certificates` and stored issuers of kind `mtls` decide about; else, with `caFile`, they must have one of its authorities.',
    ),
  })
  .optional();

const host = z
  .string()
  .refine(
    (value) => value === 'localhost' || isIP(value) !== 0,
    'must be an IP address or localhost',
  )
  .default('127.0.0.1');

const postgresUrl = z
  .string()
  .regex(/^postgres(?:ql)?:\/\//u, 'must begin with postgresql://')
  .refine((value) => URL.canParse(value), 'is not a URL');

const issuer = z
  .strictObject({
    issuer: z.string().min(1),
    audience: z.string().min(1),
    jwksFile: file.optional(),
    jwksUrl: z.url({ protocol: /^https?$/u }).optional(),
    algorithms: z.array(z.enum(TOKEN_ALGORITHMS)).min(1),
    rolesClaim: z.string().min(1).default('roles'),
    maxLifetime: z.int().min(1).max(31_536_000).optional(),
  })
  .refine(
    ({ jwksFile, jwksUrl }) => (jwksFile === undefined) !== (jwksUrl === undefined),
    'takes exactly one of jwksFile and jwksUrl',
  );

const http = z
  .strictObject({
    host: described(host, 'Address of the main listener.', { flag: 'host' }),
    port: described(port(8370), 'Port of the main listener; 0 takes a free one.', {
      env: 'TWOFOLD_PORT',
      flag: 'port',
    }),
    tls,
  })
  .prefault({});

const admin = z
  .strictObject({
    host: described(host, 'Address of a listener of its own for /v1/admin.'),
    port: described(port(8372), 'Its port; 0 takes a free one.'),
    tls,
  })
  .optional();

const metrics = z
  .strictObject({
    host: described(host, 'Address of the metrics listener.'),
    port: described(port(8371), 'Port of the metrics listener; 0 takes a free one.'),
    tls,
  })
  .prefault({});

const database = z
  .strictObject({
    url: described(
      postgresUrl.optional(),
      'PostgreSQL 15 to 18, as the role of the server; no parameter but `sslmode`. Without it, dev starts its own.',
      { env: 'DATABASE_URL', flag: false },
    ),
    ownerUrl: described(
      postgresUrl.optional(),
      'The same database as the role that owns the tables; with it the server migrates at start.',
      { flag: false },
    ),
    readOnlyUrl: described(
      postgresUrl.optional(),
      "The same database at its standbys (HAProxy, or CloudNativePG's `-ro` service), as the same role: entries of the audit log are read there, where they have the leaves that the primary's tree has.",
      { flag: false },
    ),
    passwordFile: described(
      file.optional(),
      'File with the password of `database.url` and `readOnlyUrl`, mode 0640 at most; the URLs then have none.',
    ),
    ownerPasswordFile: described(file.optional(), 'The same for `database.ownerUrl`.'),
    tls: described(
      z.enum(['disable', 'require', 'verify-ca', 'verify-full']).optional(),
      'TLS to the database; `sslmode` of the URL says the same. Default: `disable` on loopback, else `verify-full`.',
    ),
    caFile: described(
      file.optional(),
      "PEM authorities of the database's certificate; for `verify-ca` and `verify-full`.",
    ),
    poolSize: described(z.int().min(2).max(200).default(10), 'Connections of one worker at most.'),
    replication: described(
      z.enum(['required', 'reported']).optional(),
      '`required`: no start, and not ready, where a commit would wait for no standby; `reported`: that is only said. Default: `required` with `zone.others`, else `reported`.',
    ),
    managers: described(
      z
        .array(
          z
            .url({ protocol: /^https?$/u })
            .refine((text) => !/^[^/]*\/\/[^/]*@/u.test(text), 'takes no user and no password'),
        )
        .max(16)
        .default([]),
      "Addresses of Patroni's REST API (`https://patroni-1:8008`), where `database.replication` is looked after: whether commits would wait also without a standby is asked there. Certificates are checked by `database.caFile`. JSON in the environment.",
      { flag: false },
    ),
  })
  .prefault({});

const hsm = z
  .strictObject({
    module: described(
      file.optional(),
      'PKCS#11 module. Without it, dev uses SoftHSM with a token of its own.',
      { env: 'TWOFOLD_PKCS11_MODULE' },
    ),
    moduleParameters: described(
      z.string().min(1).max(1024).optional(),
      "Text that the module takes at C_Initialize (NSS: `configdir='sql:/folder'`).",
    ),
    slot: described(z.int().min(0).optional(), 'Slot number of the token (or `tokenLabel`).'),
    tokenLabel: described(z.string().min(1).max(32).optional(), 'Label of the token (or `slot`).'),
    pinFile: described(file.optional(), 'File with the user PIN, mode 0600 or 0400.'),
    workers: described(z.int().min(1).max(32).default(2), 'HSM threads of one worker.'),
    queueLimit: described(
      z.int().min(1).max(100_000).default(512),
      'Waiting HSM calls of one worker before it answers `hsm_busy`.',
    ),
    deadlineMs: described(
      z.int().min(50).max(60_000).default(3000),
      'Longest wait for one HSM call, and of a use for its turn, ms.',
    ),
  })
  .prefault({});

const suites = z
  .strictObject({
    profile: described(
      z.enum(['default', 'cnsa2', 'fips']).default('default'),
      'Suites that may get new key versions: all; those that CNSA 2.0 lists; those whose every algorithm NIST has approved. Existing versions stay usable.',
    ),
    allow: described(
      z.array(z.string()).max(256).default([]),
      'Ids of the suites that may; empty: all of the profile. JSON in the environment.',
      { flag: false },
    ),
    classicalUntil: described(
      z
        .string()
        .refine((text) => parseUntil(text) !== undefined, {
          message: 'must be YYYY-MM-DD, an RFC 3339 time or never',
        })
        .optional(),
      'How long quantum-vulnerable suites may get new key versions: a date (the whole day in UTC), an RFC 3339 time, or `never`. Default: without end.',
    ),
    experimental: described(
      z.boolean().default(false),
      'Whether experimental suites (Falcon) may get new key versions.',
    ),
  })
  .prefault({});

const duration = () =>
  z
    .string()
    .refine((text) => parseDuration(text) !== undefined, 'must be a duration like P30D or PT36H');

const destruction = z
  .strictObject({
    minimumWait: described(
      duration().default('P7D'),
      'Least time between asking for a destruction and its running: days and hours, ISO 8601. At least P1D in production.',
    ),
    defaultWait: described(
      duration().default('P30D'),
      'The same where the request names no time; not less than `destruction.minimumWait`.',
    ),
    backupHorizon: described(
      duration().optional(),
      'How long backups of the database are kept: answers then say until when a copy of what is destroyed may exist.',
    ),
  })
  .prefault({});

const SHORTEST_INTERVAL_MS = 1_000;

const rotation = z
  .strictObject({
    perMinute: described(
      z.int().min(1).max(100_000).default(120),
      'Rotations that the scheduler makes in a minute, over all keys; more wait for the next.',
    ),
    storageBytes: described(
      z.int().min(1).default(10_737_418_240),
      'What rotations may add to the database over the days of a rotation plan before it warns.',
    ),
    hsmSecondsPerDay: described(
      z.int().min(1).max(86_400).default(3_600),
      'How long rotations may occupy the HSM on one day before a rotation plan warns.',
    ),
    rootRowsPerSecond: described(
      z.int().min(1).max(100_000).default(310),
      'Rows that a rotation of the root makes anew in a second at most; requests come first.',
    ),
    minInterval: described(
      z
        .string()
        .refine((text) => {
          const length = parseCalendarDuration(text);
          return length !== null && lengthOf(length) >= SHORTEST_INTERVAL_MS;
        }, 'must be an ISO 8601 duration of a second at least')
        .optional(),
      'Shortest `interval` and `retire.after` of a rotation policy: an ISO 8601 duration, PT1H at least in production. Default: PT1H in production, PT1M in dev.',
    ),
  })
  .prefault({});

/** The database removes no younger event, whoever asks (`expire_events`). */
const SHORTEST_RETENTION_MS = 86_400_000;

const events = z
  .strictObject({
    retention: described(
      z
        .string()
        .refine((text) => {
          const length = parseCalendarDuration(text);
          return length !== null && lengthOf(length) >= SHORTEST_RETENTION_MS;
        }, 'must be an ISO 8601 duration of a day at least')
        .default('P90D'),
      'How long events are kept for consumers that were away: an ISO 8601 duration, a day at least.',
    ),
  })
  .prefault({});

const certificateIssuer = z
  .strictObject({
    issuer: z.string().min(1).max(1024),
    caFile: file,
    subject: z.enum(['spiffe', 'dns', 'email', 'commonName', 'distinguishedName']),
    trustDomain: z.string().min(1).max(255).optional(),
    namespace: z.string().min(1).max(63).optional(),
    roles: z
      .array(
        z.strictObject({
          subject: z.string().min(1).max(255),
          roles: z.array(z.string().min(1).max(128)).min(1).max(64),
        }),
      )
      .max(256)
      .default([]),
  })
  .refine(
    ({ subject, trustDomain }) => (subject === 'spiffe') === (trustDomain !== undefined),
    'takes trustDomain with the subject spiffe, and only then',
  );

const access = z
  .strictObject({
    initialPolicies: described(
      z.enum(['none', 'roles']).optional(),
      'Policies that a namespace begins with: `roles` for those of admin, operator, user and auditor, `none` for nobody. Default: `roles` in dev, else `none`.',
    ),
    certificates: described(
      z.array(certificateIssuer).max(16).default([]),
      "Client certificates that are taken in a token's place, of listeners with `clientCertificates` `request`: `issuer` (of the principals), `caFile` (PEM of the authorities that sign them directly), `subject` (`spiffe`, `dns` or `email`: the kind of alternative name, which must be there once; `commonName` or `distinguishedName`, in the form of RFC 4514: of the certificate's subject; of one issuer always the same), `trustDomain` (of `spiffe`), `namespace` (the only one in which its certificates are taken; without it all), `roles` (`subject`, which may end in `*` after one of `/ : @ . #`, and `roles`). JSON in the environment.",
      { flag: false },
    ),
    internalIssuers: described(
      z.array(z.string().min(1).max(253)).max(100).default([]),
      'Host names of stored issuers that may have addresses which are not public. JSON in the environment.',
      { flag: false },
    ),
  })
  .prefault({});

const zoneName = z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,62})$/u);

/** The whole configuration, before paths are made absolute. */
export const configSchema = z.strictObject({
  mode: described(
    z.enum(['dev', 'production']).default('production'),
    '`dev` brings its own database, token and issuer; `--dev` is short for `--mode dev`.',
  ),
  dataDir: described(
    z.string().min(1).default('.twofold'),
    'Data folder, mode 0700; the default lies in the folder of the program. In dev without `#`, `=` and line breaks, which SoftHSM reads no path with.',
    { env: 'TWOFOLD_DATA', flag: 'data' },
  ),
  workers: described(
    z.int().min(1).max(16).default(1),
    'Processes that serve one address; each has its own HSM workers, queue, database connections and caches.',
  ),
  http,
  admin,
  metrics,
  database,
  hsm,
  issuers: described(
    z.array(issuer).default([]),
    'Token issuers: `issuer`, `audience`, `jwksFile` or `jwksUrl`, `algorithms`, `rolesClaim`, `maxLifetime` (longest `exp - iat`, s). JSON in the environment.',
    { flag: false },
  ),
  access,
  zone: z
    .strictObject({
      name: described(zoneName.default('local'), 'Name of this zone.'),
      others: described(
        z.array(zoneName).max(64).default([]),
        'Names of the other zones that serve from the same database, each with an HSM of its own. JSON in the environment.',
        { flag: false },
      ),
      graceMs: described(
        z.int().min(0).max(120_000).default(0),
        'How long unwraps and verifications are answered from cache while the database takes no commit, ms; 0: not at all. Every instance on the database has to be of a version that knows it; then 30000 is a good value.',
      ),
    })
    .prefault({}),
  limits: limitsSchema,
  kms: kmsSchema,
  audit: auditSchema({ host, port: port(8373), tls }),
  events,
  suites,
  destruction,
  rotation,
  backup: backupSchema,
  log: z
    .strictObject({
      level: described(
        z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace']).default('info'),
        'Least severe level that is logged.',
      ),
    })
    .prefault({}),
  stop: z
    .strictObject({
      waitMs: described(
        z.int().min(0).max(60_000).default(0),
        'Time between "not ready" and closing the listeners, for load balancers, ms.',
      ),
      drainMs: described(
        z.int().min(0).max(300_000).default(10_000),
        'Longest wait for open requests, ms.',
      ),
    })
    .prefault({}),
});

type DeepReadonly<T> = T extends readonly (infer E)[]
  ? readonly DeepReadonly<E>[]
  : T extends object
    ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
    : T;

/** The frozen configuration. Paths are absolute; URLs carry no `sslmode` any more, and their passwords. */
export type Config = DeepReadonly<z.output<typeof configSchema>>;
export type TlsFiles = NonNullable<Config['http']['tls']>;
export type IssuerConfig = Config['issuers'][number];

/** One leaf of the schema with the names that set it. */
export interface Setting {
  /** Dotted path, which is also the place in the file. */
  readonly path: string;
  readonly env: string;
  /** Without the two dashes; undefined where no flag is offered. */
  readonly flag: string | undefined;
  readonly description: string;
  readonly kind: 'string' | 'number' | 'boolean' | 'json';
  /** The type as the reference page shows it. */
  readonly type: string;
  readonly defaultValue: unknown;
}

interface Unwrapped {
  readonly inner: z.core.$ZodType;
  readonly defaultValue: unknown;
}

const unwrap = (schema: z.core.$ZodType, defaultValue?: unknown): Unwrapped => {
  if (schema instanceof z.ZodOptional) return unwrap(schema.unwrap(), defaultValue);
  if (schema instanceof z.ZodDefault) return unwrap(schema.unwrap(), schema.def.defaultValue);
  if (schema instanceof z.ZodPrefault) return unwrap(schema.unwrap(), defaultValue);
  return { inner: schema, defaultValue };
};

const kindOf = (inner: z.core.$ZodType): Setting['kind'] => {
  if (inner instanceof z.ZodNumber) return 'number';
  if (inner instanceof z.ZodLiteral) return typeof inner.value === 'number' ? 'number' : 'string';
  if (inner instanceof z.ZodBoolean) return 'boolean';
  return inner instanceof z.ZodArray ? 'json' : 'string';
};

const typeOf = (inner: z.core.$ZodType): string => {
  if (inner instanceof z.ZodEnum) return inner.options.join(' \\| ');
  if (inner instanceof z.ZodLiteral) return String(inner.value);
  if (inner instanceof z.ZodNumber) return `${inner.minValue ?? ''} … ${inner.maxValue ?? ''}`;
  return kindOf(inner);
};

const words = (path: string): string[] =>
  path.replace(/[A-Z]/gu, (letter) => `-${letter.toLowerCase()}`).split(/[.-]/u);

const settingOf = (path: string, schema: z.core.$ZodType): Setting => {
  const { inner, defaultValue } = unwrap(schema);
  const meta = (schema as z.ZodType).meta() as SettingMeta | undefined;
  const flag = meta?.flag ?? words(path).join('-');
  return {
    path,
    env: meta?.env ?? `TWOFOLD_${words(path).join('_').toUpperCase()}`,
    flag: flag === false ? undefined : flag,
    description: meta?.description ?? '',
    kind: kindOf(inner),
    type: typeOf(inner),
    defaultValue,
  };
};

const leaves = (schema: z.core.$ZodType, path: readonly string[]): Setting[] => {
  const { inner } = unwrap(schema);
  if (!(inner instanceof z.ZodObject)) return [settingOf(path.join('.'), schema)];
  const shape = inner.shape as Record<string, z.core.$ZodType>;
  return Object.entries(shape).flatMap(([key, member]) => leaves(member, [...path, key]));
};

/** Every leaf, in the order of the schema. */
export const SETTINGS: readonly Setting[] = Object.freeze(leaves(configSchema, []));
