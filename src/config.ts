/**
 * Flags, environment and file -> strict schema -> one frozen `Config`. The only reader of the
 * environment: everything else is handed its settings.
 *
 * `loadConfig` is for `serve` and other commands that need a usable configuration, `checkConfig` for
 * `twofold config check`, `describeConfig` for the reference page.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { configReference } from './config/reference.ts';
import { readPassword, settleDatabase } from './config/database.ts';
import type { ConfigPart } from './config/parts.ts';
import { fileProblems, ruleProblems, settlePaths } from './config/rules.ts';
import { configSchema } from './config/schema.ts';
import type { Config } from './config/schema.ts';
import { readSecretFile } from './config/secret-file.ts';
import type { Closed } from './config/secret-file.ts';
import { collect, takeConfigFlags as takeFlags } from './config/sources.ts';
import type { Environment, Problem, RawConfig, TakenFlags } from './config/sources.ts';
import { TwofoldError } from './errors.ts';
import { NAME } from './name.ts';

export type { Config, IssuerConfig, TlsFiles } from './config/schema.ts';
export type { ConfigPart } from './config/parts.ts';
export type { Problem, TakenFlags } from './config/sources.ts';
export { parseUntil } from './config/until.ts';

/** Where a configuration is read from; every member defaults to the process's own. */
export interface ConfigSources {
  /** Flags by name without dashes, as `takeConfigFlags` gives them. */
  readonly flags?: ReadonlyMap<string, string>;
  readonly environment?: Environment;
  /**
   * What the command uses; everything unless given. The rest is read and must be sound by itself, but
   * nothing of it is demanded, and the files that it names are left alone: a step that migrates needs
   * no PIN, and the one that makes the root no database.
   */
  readonly uses?: readonly ConfigPart[];
}

/** What `checkConfig` found: a usable configuration, or every problem at once. */
export type ConfigCheck =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly problems: readonly Problem[] };

const programDir = join(import.meta.dirname, '..');

const deepFreeze = <T>(value: T): T => {
  if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) deepFreeze(member);
    Object.freeze(value);
  }
  return value;
};

interface SchemaIssue {
  readonly code: string;
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly keys?: readonly string[];
}

const schemaProblem = (issue: SchemaIssue, origin: RawConfig['origin']): Problem[] => {
  const path = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    return (issue.keys ?? []).map((key) => ({
      where: path === '' ? key : `${path}.${key}`,
      message: 'is not a setting that we know',
    }));
  }
  return [{ where: origin.get(path) ?? path, message: issue.message }];
};

/** Reads and checks the configuration, the files that it names included; reports all problems. */
export const checkConfig = (sources: ConfigSources = {}): ConfigCheck => {
  const { raw, origin, problems } = collect(
    sources.environment ?? process.env,
    sources.flags ?? new Map<string, string>(),
  );
  const parsed = configSchema.safeParse(raw);
  if (!parsed.success || problems.length > 0) {
    const issues = (parsed.error?.issues ?? []) as readonly SchemaIssue[];
    return {
      ok: false,
      problems: [...problems, ...issues.flatMap((i) => schemaProblem(i, origin))],
    };
  }
  const found: Problem[] = [];
  const withPaths = settlePaths(parsed.data, programDir, 'dataDir' in raw);
  const { uses } = sources;
  const config = { ...withPaths, database: settleDatabase(withPaths.database, found, uses) };
  found.push(...ruleProblems(config, uses), ...fileProblems(config, uses));
  return found.length > 0
    ? { ok: false, problems: found }
    : { ok: true, config: deepFreeze(config) };
};

/** One problem as a line: never the value, which may be secret. */
export const problemLine = ({ where, message }: Problem): string => `${where} ${message}`;

/**
 * The configuration, deeply frozen.
 *
 * @throws TwofoldError `invalid_value` whose detail lists every problem, one a line.
 */
export const loadConfig = (sources: ConfigSources = {}): Config => {
  const check = checkConfig(sources);
  if (check.ok) return check.config;
  const lines = check.problems.map((problem) => `  ${problemLine(problem)}`);
  throw new TwofoldError('invalid_value', `The configuration is not usable:\n${lines.join('\n')}`);
};

/** Splits the arguments into flags of the configuration and the rest, which the command refuses or knows; throws for a setting given twice. */
export const takeConfigFlags = (argv: readonly string[]): TakenFlags => takeFlags(argv);

/** The reference page in Markdown; `scripts/generate` writes and checks it. */
export const describeConfig = (): string => configReference();

/** A password and what is asked for (a presigned URL's signature, a collector's key) are secrets. */
const presentUrl = (text: string): string => {
  const url = new URL(text);
  if (url.search !== '') url.search = '?***';
  if (url.password !== '') url.password = '***';
  return url.toString();
};

const presentTarget = (target: { readonly url?: string | undefined }): object =>
  target.url === undefined ? target : { ...target, url: presentUrl(target.url) };

/** Printed by `config check`: the configuration without the passwords in its URLs. */
export const presentConfig = (config: Config): unknown => {
  const hide = (text: string | undefined): string | undefined => {
    if (text === undefined) return undefined;
    const url = new URL(text);
    if (url.password !== '') url.password = '***';
    return url.toString();
  };
  const { url, ownerUrl, readOnlyUrl, ...database } = config.database;
  const audit = {
    ...config.audit,
    publishTo: config.audit.publishTo.map(presentTarget),
    sinks: config.audit.sinks.map((sink) => ('url' in sink ? presentTarget(sink) : sink)),
    witnesses: config.audit.witnesses.map(presentTarget),
  };
  const issuers = config.issuers.map(({ jwksUrl, ...issuer }) =>
    jwksUrl === undefined ? issuer : { ...issuer, jwksUrl: presentUrl(jwksUrl) },
  );
  return {
    ...config,
    issuers,
    audit,
    database: {
      ...database,
      url: hide(url),
      ownerUrl: hide(ownerUrl),
      readOnlyUrl: hide(readOnlyUrl),
    },
  };
};

/** Reads a PIN, token or key file that nobody but its owner may read; see `config/secret-file.ts`. */
export const readOwnerOnlyFile = (
  path: string,
  closed?: Closed,
  owner: number | null = null,
): Uint8Array => readSecretFile(path, closed, owner);

/** The password of a database's file, mode 0640 at most; see `config/database.ts`. */
export const readPasswordFile = (path: string): string => readPassword(path);

/** Where distributions put the SoftHSM module; `scripts/setup` looks at the same places. */
export const SOFTHSM_PATHS: readonly string[] = [
  '/usr/lib/softhsm/libsofthsm2.so',
  '/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib64/softhsm/libsofthsm2.so',
  '/usr/lib64/pkcs11/libsofthsm2.so',
  '/usr/lib64/libsofthsm2.so',
  '/usr/local/lib/softhsm/libsofthsm2.so',
];

/** The SoftHSM module of this host, for `dev` without a configured module. */
export const findSoftHsm = (): string | undefined => SOFTHSM_PATHS.find((path) => existsSync(path));

/** Variables of Node's as the process got them, for the launch guard. */
export const launchVariables = () => ({
  nodeOptions: process.env['NODE_OPTIONS'] ?? '',
  rejectUnauthorized: process.env['NODE_TLS_REJECT_UNAUTHORIZED'],
});

/**
 * What a PKCS#11 module may read from its environment, such as where its configuration lies: all but
 * Node's options and our own settings, which may hold passwords.
 */
export const moduleEnvironment = (): Record<string, string> =>
  Object.fromEntries(
    Object.entries(process.env).filter(
      (entry): entry is [string, string] =>
        entry[1] !== undefined &&
        !entry[0].startsWith('NODE_') &&
        !entry[0].startsWith(NAME.environment) &&
        entry[0] !== 'DATABASE_URL',
    ),
  );

/** The environment for a child process that needs the host's own: without settings and Node options. */
export const childEnvironment = (): Record<string, string> => {
  const kept = ['PATH', 'HOME', 'TMPDIR', 'TZ'] as const;
  return Object.fromEntries(
    kept.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
};
