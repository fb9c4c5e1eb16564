/** What one value cannot say: rules between settings, and the files that settings name. */
import { readFileSync, statSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import { assertPublic, assertUsable, readJwkSet } from '../access/jwk-set.ts';
import { SUITES } from '../crypto/suites.ts';
import { parseDuration } from '../duration.ts';
import { lengthOf, parseDuration as parseCalendarDuration } from '../keyring/durations.ts';
import { TwofoldError } from '../errors.ts';
import type { SinkSettings } from './audit-sinks.ts';
import { readAuthorities } from './authorities.ts';
import { providerSuite } from './kms.ts';
import { isLoopback } from './loopback.ts';
import { PARTS } from './parts.ts';
import type { ConfigPart } from './parts.ts';
import type { Config, IssuerConfig, TlsFiles } from './schema.ts';
import { readSecretFile } from './secret-file.ts';
import type { Problem } from './sources.ts';

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
  const sections = {
    ...{ http: config.http, admin: config.admin, metrics: config.metrics },
    'audit.witness': config.audit.witness,
  };
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

const productionProblems = (config: Config, uses: readonly ConfigPart[]): Problem[] => {
  if (config.mode !== 'production') return [];
  const needed: readonly (readonly [ConfigPart, string, boolean])[] = [
    ['database', 'DATABASE_URL', config.database.url !== undefined],
    ['hsm', 'hsm.module', config.hsm.module !== undefined],
    ['issuers', 'issuers', config.issuers.length > 0],
  ];
  return needed
    .filter(([part, , present]) => uses.includes(part) && !present)
    .map(([, where]) => ({ where, message: 'is needed in production (or start with --dev)' }));
};

const backupProblems = ({ backup }: Config): Problem[] => {
  const { folder, recoveryKeyFile, every } = backup;
  const problems: Problem[] = [];
  if ((folder === undefined) !== (recoveryKeyFile === undefined)) {
    const message = 'takes recoveryKeyFile too, and neither is of use without the other';
    problems.push({ where: 'backup.folder', message });
  }
  if (every !== undefined && folder === undefined) {
    problems.push({ where: 'backup.every', message: 'needs backup.folder' });
  }
  return problems;
};

/**
 * SoftHSM ends a path in its configuration at each of these, and takes what is before it for the folder of
 * its tokens: somebody else's, which no backup of the data folder has.
 */
const ENDS_PATH = /[#=\r\n]/u;
/** Of a line of that configuration, which SoftHSM reads into 1,024 bytes. */
const LONGEST_PATH = 900;

const tokenFolderProblems = ({ hsm, mode, dataDir }: Config): Problem[] => {
  if (mode !== 'dev' || hsm.module !== undefined) return [];
  if (!ENDS_PATH.test(dataDir) && Buffer.byteLength(dataDir) <= LONGEST_PATH) return [];
  const message =
    `holds the development token, and SoftHSM reads no path with "#", "=" or a line break, or of over ` +
    `${String(LONGEST_PATH)} bytes: name another folder, or a link to this one`;
  return [{ where: 'dataDir', message }];
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

/** An issuer names its principals in one way, so that no two are called the same. */
const certificateProblems = ({ access: { certificates }, issuers }: Config): Problem[] =>
  certificates.flatMap(({ issuer, subject }, index) => {
    const where = `access.certificates.${index}.issuer`;
    if (issuers.some((other) => other.issuer === issuer)) {
      return [{ where, message: 'is one of issuers, too' }];
    }
    const before = certificates.slice(0, index).filter((other) => other.issuer === issuer);
    if (before.every((other) => other.subject === subject)) return [];
    return [{ where, message: 'is listed before with another subject' }];
  });

const suiteProblems = ({ suites: { allow } }: Config): Problem[] => {
  const unknown = allow.filter((id) => SUITES[id] === undefined);
  if (unknown.length === 0) return [];
  const message = `lists what is no suite: ${unknown.map((id) => JSON.stringify(id)).join(', ')}`;
  return [{ where: 'suites.allow', message }];
};

const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

const destructionProblems = ({ destruction, mode }: Config): Problem[] => {
  const least = parseDuration(destruction.minimumWait) ?? 0;
  const usual = parseDuration(destruction.defaultWait) ?? 0;
  const problems: Problem[] = [];
  if (mode === 'production' && least < DAY_MS) {
    problems.push({ where: 'destruction.minimumWait', message: 'is at least P1D in production' });
  }
  if (usual < least) {
    const message = 'is not less than destruction.minimumWait';
    problems.push({ where: 'destruction.defaultWait', message });
  }
  return problems;
};

const rotationProblems = ({ rotation: { minInterval }, mode }: Config): Problem[] => {
  const given = minInterval === undefined ? null : parseCalendarDuration(minInterval);
  if (mode !== 'production' || given === null || lengthOf(given) >= HOUR_MS) return [];
  return [{ where: 'rotation.minInterval', message: 'is at least PT1H in production' }];
};

const auditProblems = ({ audit, mode }: Config): Problem[] => {
  const { publishTo, witnesses, sinks } = audit;
  const urls = [
    ...publishTo.map(({ url }, index) => [`audit.publishTo.${index}.url`, url] as const),
    ...witnesses.map(({ url }, index) => [`audit.witnesses.${index}.url`, url] as const),
    ...sinks.map(
      (sink, index) => [`audit.sinks.${index}.url`, 'url' in sink ? sink.url : undefined] as const,
    ),
  ];
  const plain = urls.flatMap(([where, text]) => {
    const url = text === undefined ? undefined : new URL(text);
    const isPlain = url?.protocol === 'http:' && !(mode === 'dev' && isLoopback(url.hostname));
    return isPlain ? [{ where, message: 'must be https' }] : [];
  });
  const twice = sinks.flatMap(({ name }, index) =>
    sinks.findIndex((other) => other.name === name) < index
      ? [{ where: `audit.sinks.${index}.name`, message: 'is listed twice' }]
      : [],
  );
  const paths = sinks.map((sink) => (sink.type === 'file' ? resolve(sink.path) : null));
  const shared = paths.flatMap((path, index) =>
    path !== null && paths.indexOf(path) < index
      ? [{ where: `audit.sinks.${index}.path`, message: 'is listed twice' }]
      : [],
  );
  return [...plain, ...twice, ...shared];
};

const kmsProblems = ({ kms, mode }: Config): Problem[] => {
  const { socket, key, suite, cluster, group } = kms;
  const problems: Problem[] = [];
  if (providerSuite(suite) === null) {
    problems.push({ where: 'kms.suite', message: 'must be A256GCM or a hybrid KEM' });
  }
  if (socket === undefined) {
    const alone = Object.entries({ key, cluster, group }).filter(
      ([, value]) => value !== undefined,
    );
    const message = 'says something of a provider that has no kms.socket';
    return [...problems, ...alone.map(([name]) => ({ where: `kms.${name}`, message }))];
  }
  if (key === undefined) problems.push({ where: 'kms.key', message: 'is needed with kms.socket' });
  if (cluster === undefined && mode === 'production') {
    const message =
      'is needed with kms.socket in production: values of one cluster open in no other';
    problems.push({ where: 'kms.cluster', message });
  }
  return problems;
};

const zoneProblems = ({ zone: { name, others } }: Config): Problem[] => {
  const twice = new Set([name, ...others]).size <= others.length;
  return twice ? [{ where: 'zone.others', message: 'lists a zone twice, or this one' }] : [];
};

/** Problems between settings, of the parts that are used. */
export const ruleProblems = (config: Config, uses: readonly ConfigPart[] = PARTS): Problem[] => [
  ...productionProblems(config, uses),
  ...suiteProblems(config),
  ...destructionProblems(config),
  ...backupProblems(config),
  ...rotationProblems(config),
  ...auditProblems(config),
  ...kmsProblems(config),
  ...zoneProblems(config),
  ...(uses.includes('listeners') ? listenerProblems(config) : []),
  ...(uses.includes('hsm') ? [...hsmProblems(config), ...tokenFolderProblems(config)] : []),
  ...(uses.includes('issuers') ? issuerProblems(config) : []),
  ...(uses.includes('issuers') ? certificateProblems(config) : []),
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

const missingFile = (where: string, path: string | undefined): Problem[] =>
  path === undefined || isFile(path) ? [] : [{ where, message: `${path} is not a file` }];

/** Problems with the files that the used parts name: missing, unreadable, open to others. */
export const fileProblems = (config: Config, uses: readonly ConfigPart[] = PARTS): Problem[] => {
  const { hsm, database, issuers } = config;
  const { pinFile } = hsm;
  const of: Readonly<Record<ConfigPart, () => Problem[]>> = {
    hsm: () => [
      ...missingFile('hsm.module', hsm.module),
      ...(pinFile === undefined
        ? []
        : attempt('hsm.pinFile', () => readSecretFile(pinFile).fill(0))),
    ],
    database: () => missingFile('database.caFile', database.caFile),
    owner: () => (uses.includes('database') ? [] : missingFile('database.caFile', database.caFile)),
    issuers: () => [
      ...issuers.flatMap(keySetProblems),
      ...config.access.certificates.flatMap(({ caFile }, index) =>
        attempt(`access.certificates.${index}.caFile`, () => readAuthorities(caFile)),
      ),
    ],
    listeners: () => [
      ...missingFile('backup.recoveryKeyFile', config.backup.recoveryKeyFile),
      ...config.audit.publishTo.flatMap(({ tokenFile }, index) =>
        tokenFile === undefined
          ? []
          : attempt(`audit.publishTo.${index}.tokenFile`, () =>
              readSecretFile(tokenFile, 0o007).fill(0),
            ),
      ),
      ...config.audit.sinks.flatMap((sink, index) => sinkProblems(`audit.sinks.${index}`, sink)),
      ...tlsProblems('http.tls', config.http.tls),
      ...tlsProblems('admin.tls', config.admin?.tls),
      ...tlsProblems('metrics.tls', config.metrics.tls),
      ...tlsProblems('audit.witness.tls', config.audit.witness?.tls),
    ],
  };
  return uses.flatMap((part) => of[part]());
};

/** Files that a sink reads at each delivery, and would else be missed only then. */
const sinkProblems = (where: string, sink: SinkSettings): Problem[] => {
  if (sink.type === 'file') return [];
  const secret = (name: string, file: string | undefined, closed: 0o077 | 0o007): Problem[] =>
    file === undefined
      ? []
      : attempt(`${where}.${name}`, () => readSecretFile(file, closed).fill(0));
  const own =
    sink.type === 'syslog'
      ? [
          ...missingFile(`${where}.certificateFile`, sink.certificateFile),
          ...secret('keyFile', sink.keyFile, 0o007),
        ]
      : secret('tokenFile', sink.tokenFile, 0o077);
  const signing = sink.type === 'http' ? secret('hmacKeyFile', sink.hmacKeyFile, 0o077) : [];
  return [...missingFile(`${where}.caFile`, sink.caFile), ...own, ...signing];
};

const SINK_FILES = ['path', 'caFile', 'tokenFile', 'hmacKeyFile', 'certificateFile', 'keyFile'];

const absoluteSink = (sink: SinkSettings): SinkSettings => {
  const files = Object.entries(sink).filter(([name]) => SINK_FILES.includes(name));
  const settled = files.map(([name, path]) => [name, resolve(String(path))] as const);
  return { ...sink, ...Object.fromEntries(settled) };
};

const absoluteTls = <T extends { readonly tls?: TlsFiles | undefined }>(section: T): T => {
  if (section.tls === undefined) return section;
  const { certFile, keyFile, caFile, clientCertificates } = section.tls;
  const tls = {
    certFile: resolve(certFile),
    keyFile: resolve(keyFile),
    ...(caFile !== undefined && { caFile: resolve(caFile) }),
    ...(clientCertificates !== undefined && { clientCertificates }),
  };
  return { ...section, tls };
};

const absolute = <K extends string>(
  section: Readonly<Partial<Record<K, string | undefined>>>,
  name: K,
): Partial<Record<K, string>> => {
  const path = section[name];
  return path === undefined ? {} : ({ [name]: resolve(path) } as Record<K, string>);
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
      ...absolute(database, 'caFile'),
      ...absolute(database, 'passwordFile'),
      ...absolute(database, 'ownerPasswordFile'),
    },
    kms: { ...config.kms, ...absolute(config.kms, 'socket') },
    audit: {
      ...config.audit,
      ...(config.audit.witness && { witness: absoluteTls(config.audit.witness) }),
      publishTo: config.audit.publishTo.map((target) => ({
        ...target,
        ...absolute(target, 'folder'),
        ...absolute(target, 'tokenFile'),
      })),
      sinks: config.audit.sinks.map(absoluteSink),
    },
    backup: {
      ...config.backup,
      ...absolute(config.backup, 'folder'),
      ...absolute(config.backup, 'recoveryKeyFile'),
    },
    access: {
      ...config.access,
      certificates: config.access.certificates.map((each) => ({
        ...each,
        caFile: resolve(each.caFile),
      })),
    },
    issuers: config.issuers.map((issuer) => ({
      ...issuer,
      ...(issuer.jwksFile !== undefined && { jwksFile: resolve(issuer.jwksFile) }),
    })),
  };
};
