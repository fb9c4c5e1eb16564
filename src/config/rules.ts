/** What one value cannot say: rules between settings, and the files that settings name. */
import { readFileSync, statSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import { assertPublic, assertUsable, readJwkSet } from '../access/jwk-set.ts';
import { TwofoldError } from '../errors.ts';
import type { Config, IssuerConfig, TlsFiles } from './schema.ts';
import { readSecretFile } from './secret-file.ts';
import type { Problem } from './sources.ts';

/** Whether only this host can reach `host`. */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' ||
  host === '::1' ||
  host === '[::1]' ||
  /^127\.(?:\d{1,3}\.){2}\d{1,3}$/u.test(host);

const SSL_MODES = ['disable', 'require', 'verify-ca', 'verify-full'] as const;
type SslMode = (typeof SSL_MODES)[number];

const isSslMode = (text: string): text is SslMode => SSL_MODES.some((mode) => mode === text);

interface DatabaseUrl {
  readonly url: string;
  readonly host: string;
  readonly mode?: SslMode;
  readonly problem?: string;
}

/**
 * The URL without its `sslmode`, and that mode. Any other parameter is refused: the client would take
 * it over our own settings, another host without TLS or `options` that give up durability included.
 */
const splitUrl = (text: string): DatabaseUrl => {
  const url = new URL(text);
  const [mode = null, ...more] = url.searchParams.getAll('sslmode');
  const other = [...url.searchParams.keys()].some((name) => name !== 'sslmode');
  url.search = '';
  const rest = { url: url.toString(), host: url.hostname };
  if (rest.host === '') return { ...rest, problem: 'names no host' };
  if (other || more.length > 0) {
    return { ...rest, problem: 'takes no parameter but one sslmode; see database.tls and caFile' };
  }
  if (mode === null) return rest;
  if (!isSslMode(mode))
    return { ...rest, problem: `has sslmode ${mode}, which may fall back to no TLS` };
  return { ...rest, mode };
};

/** The database section with plain URLs and a decided `tls`. */
export const settleDatabase = (
  database: Config['database'],
  problems: Problem[],
): Config['database'] => {
  if (database.url === undefined) {
    for (const name of ['ownerUrl', 'tls', 'caFile'] as const) {
      if (database[name] === undefined) continue;
      problems.push({ where: `database.${name}`, message: 'needs DATABASE_URL' });
    }
    return database;
  }
  const server = splitUrl(database.url);
  const owner = database.ownerUrl === undefined ? undefined : splitUrl(database.ownerUrl);
  for (const [where, part] of [
    ['DATABASE_URL', server],
    ['database.ownerUrl', owner],
  ] as const) {
    if (part?.problem !== undefined) problems.push({ where, message: part.problem });
    const modes = [database.tls, server.mode, part?.mode].filter((mode) => mode !== undefined);
    if (new Set(modes).size > 1)
      problems.push({ where, message: 'its sslmode contradicts database.tls' });
  }
  const tls =
    database.tls ??
    server.mode ??
    owner?.mode ??
    (isLoopback(server.host) ? 'disable' : 'verify-full');
  if (database.caFile !== undefined && (tls === 'disable' || tls === 'require')) {
    const message = `is not used with TLS "${tls}"; set database.tls to verify-ca or verify-full`;
    problems.push({ where: 'database.caFile', message });
  }
  return { ...database, url: server.url, tls, ...(owner && { ownerUrl: owner.url }) };
};

const ANY = ['0.0.0.0', '::'];

/** Whether two listeners of one port take the same address; `localhost` may be either loopback. */
const overlap = (one: Config['http'], other: Config['http']): boolean => {
  if (one.port === 0) return false;
  const hosts = [one.host, other.host];
  if (one.host === other.host || hosts.some((name) => ANY.includes(name))) return true;
  return hosts.includes('localhost') && hosts.every(isLoopback);
};

const listenerProblems = (config: Config): Problem[] => {
  const problems: Problem[] = [];
  const sections = { http: config.http, admin: config.admin, metrics: config.metrics };
  for (const [where, section] of Object.entries(sections)) {
    if (section === undefined || section.tls !== undefined) continue;
    if (!isLoopback(section.host)) {
      const message = `${section.host} is not loopback: set ${where}.tls.certFile and ${where}.tls.keyFile`;
      problems.push({ where: `${where}.host`, message });
    } else if (config.mode === 'production' && where !== 'metrics') {
      problems.push({ where: `${where}.tls`, message: 'production serves TLS only' });
    }
  }
  const places = Object.values(sections).filter((section) => section !== undefined);
  const collide = places.some((one, index) =>
    places.slice(index + 1).some((other) => one.port === other.port && overlap(one, other)),
  );
  if (collide) {
    problems.push({ where: 'http.port', message: 'two listeners have the same address and port' });
  }
  return problems;
};

const productionProblems = (config: Config): Problem[] => {
  if (config.mode !== 'production') return [];
  const needed: readonly (readonly [string, boolean])[] = [
    ['DATABASE_URL', config.database.url !== undefined],
    ['hsm.module', config.hsm.module !== undefined],
    ['issuers', config.issuers.length > 0],
  ];
  return needed
    .filter(([, present]) => !present)
    .map(([where]) => ({ where, message: 'is needed in production (or start with --dev)' }));
};

const hsmProblems = ({ hsm }: Config): Problem[] => {
  const problems: Problem[] = [];
  if (hsm.slot !== undefined && hsm.tokenLabel !== undefined) {
    problems.push({ where: 'hsm.slot', message: 'takes either slot or tokenLabel, not both' });
  }
  const named = hsm.slot !== undefined || hsm.tokenLabel !== undefined || hsm.pinFile !== undefined;
  if (hsm.module === undefined && named) {
    problems.push({
      where: 'hsm.module',
      message: 'is needed when a slot, label or PIN file is set',
    });
  }
  if (hsm.module !== undefined && hsm.pinFile === undefined) {
    problems.push({ where: 'hsm.pinFile', message: 'is needed with hsm.module' });
  }
  if (hsm.module !== undefined && hsm.slot === undefined && hsm.tokenLabel === undefined) {
    problems.push({ where: 'hsm.slot', message: 'or hsm.tokenLabel is needed with hsm.module' });
  }
  return problems;
};

const issuerProblems = ({ issuers, mode }: Config): Problem[] =>
  issuers.flatMap(({ issuer, jwksUrl }, index) => {
    const where = `issuers.${index}`;
    const problems: Problem[] = [];
    if (issuers.findIndex((other) => other.issuer === issuer) < index) {
      problems.push({ where: `${where}.issuer`, message: 'is listed twice' });
    }
    const url = jwksUrl === undefined ? undefined : new URL(jwksUrl);
    const plain = url?.protocol === 'http:' && !(mode === 'dev' && isLoopback(url.hostname));
    if (plain) problems.push({ where: `${where}.jwksUrl`, message: 'must be https' });
    return problems;
  });

/** Problems between settings. */
export const ruleProblems = (config: Config): Problem[] => [
  ...productionProblems(config),
  ...listenerProblems(config),
  ...hsmProblems(config),
  ...issuerProblems(config),
];

const attempt = (where: string, act: () => unknown, message?: string): Problem[] => {
  try {
    act();
    return [];
  } catch (error) {
    const detail = TwofoldError.is(error) ? error.detail : undefined;
    return [{ where, message: message ?? detail ?? 'cannot be used' }];
  }
};

const tlsProblems = (where: string, tls: TlsFiles | undefined): Problem[] => {
  if (tls === undefined) return [];
  return [
    ...attempt(`${where}.keyFile`, () => readSecretFile(tls.keyFile, 0o007).fill(0)),
    ...attempt(
      `${where}.certFile`,
      () => readFileSync(tls.certFile),
      `${tls.certFile} cannot be read`,
    ),
    ...attempt(
      where,
      () =>
        createSecureContext({
          cert: readFileSync(tls.certFile),
          key: readFileSync(tls.keyFile),
          ...(tls.caFile !== undefined && { ca: readFileSync(tls.caFile) }),
        }),
      'certificate, key and authorities do not make a TLS identity',
    ),
  ];
};

const isFile = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

const keySetProblems = ({ jwksFile, algorithms }: IssuerConfig, index: number): Problem[] => {
  if (jwksFile === undefined) return [];
  const where = `issuers.${index}.jwksFile`;
  if (!isFile(jwksFile)) return [{ where, message: `${jwksFile} is not a file` }];
  return attempt(where, () => {
    const keys = readJwkSet(readFileSync(jwksFile));
    assertPublic(keys);
    assertUsable(keys, algorithms);
  });
};

/** Problems with the files that the configuration names: missing, unreadable, open to others. */
export const fileProblems = (config: Config): Problem[] => {
  const { hsm, database, issuers } = config;
  const plain: (readonly [string, string | undefined])[] = [
    ['hsm.module', hsm.module],
    ['database.caFile', database.caFile],
  ];
  const missing = plain
    .filter(([, path]) => path !== undefined && !isFile(path))
    .map(([where, path]) => ({ where, message: `${path ?? ''} is not a file` }));
  const { pinFile } = hsm;
  const pin =
    pinFile === undefined ? [] : attempt('hsm.pinFile', () => readSecretFile(pinFile).fill(0));
  return [
    ...missing,
    ...pin,
    ...issuers.flatMap(keySetProblems),
    ...tlsProblems('http.tls', config.http.tls),
    ...tlsProblems('admin.tls', config.admin?.tls),
    ...tlsProblems('metrics.tls', config.metrics.tls),
  ];
};

const absoluteTls = <T extends { readonly tls?: TlsFiles | undefined }>(section: T): T => {
  if (section.tls === undefined) return section;
  const { certFile, keyFile, caFile } = section.tls;
  const tls = {
    certFile: resolve(certFile),
    keyFile: resolve(keyFile),
    ...(caFile !== undefined && { caFile: resolve(caFile) }),
  };
  return { ...section, tls };
};

/** Every path made absolute: against the working folder, the default data folder against the program's. */
export const settlePaths = (config: Config, programDir: string, dataDirGiven: boolean): Config => {
  const { hsm, database } = config;
  const dataDir =
    dataDirGiven || isAbsolute(config.dataDir)
      ? resolve(config.dataDir)
      : join(programDir, config.dataDir);
  return {
    ...config,
    dataDir,
    http: absoluteTls(config.http),
    metrics: absoluteTls(config.metrics),
    ...(config.admin && { admin: absoluteTls(config.admin) }),
    hsm: {
      ...hsm,
      ...(hsm.module !== undefined && { module: resolve(hsm.module) }),
      ...(hsm.pinFile !== undefined && { pinFile: resolve(hsm.pinFile) }),
    },
    database: {
      ...database,
      ...(database.caFile !== undefined && { caFile: resolve(database.caFile) }),
    },
    issuers: config.issuers.map((issuer) => ({
      ...issuer,
      ...(issuer.jwksFile !== undefined && { jwksFile: resolve(issuer.jwksFile) }),
    })),
  };
};
