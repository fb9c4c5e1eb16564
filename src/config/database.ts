/** The database's URLs: what they may say, the passwords of their files, and the TLS that follows. */
import { TwofoldError } from '../errors.ts';
import { isLoopback } from './loopback.ts';
import { PARTS } from './parts.ts';
import type { ConfigPart } from './parts.ts';
import type { Config } from './schema.ts';
import { readSecretFile } from './secret-file.ts';
import type { Problem } from './sources.ts';

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

/**
 * The password of a file: UTF-8 text without its line break.
 *
 * @throws TwofoldError `invalid_value` that says what is wrong with the file, and quotes nothing of it
 */
export const readPassword = (path: string): string => {
  const bytes = readSecretFile(path, 0o007);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new TwofoldError('invalid_value', `${path} is not UTF-8 text`);
  } finally {
    bytes.fill(0);
  }
};

/** The URL with the password of its file; what is wrong with either is a problem of `where`. */
const withPassword = (
  { url: text }: DatabaseUrl,
  passwordFile: string | undefined,
  where: string,
  problems: Problem[],
): string => {
  if (passwordFile === undefined) return text;
  const url = new URL(text);
  if (url.username === '' || url.password !== '') {
    problems.push({ where, message: 'needs a URL with a user and without a password' });
    return text;
  }
  try {
    url.password = encodeURIComponent(readPassword(passwordFile));
  } catch (error) {
    const message = TwofoldError.is(error) ? error.detail : undefined;
    problems.push({ where, message: message ?? `${passwordFile} cannot be read` });
  }
  return url.toString();
};

type Database = Config['database'];

/** Settings that say nothing without a URL to which they belong. */
const strayProblems = (database: Database, urlUsed: boolean): Problem[] => {
  const stray: [string, boolean][] = [
    ['ownerUrl', database.ownerUrl !== undefined && urlUsed],
    ['tls', database.tls !== undefined && (urlUsed || database.ownerUrl === undefined)],
    ['caFile', database.caFile !== undefined && (urlUsed || database.ownerUrl === undefined)],
    ['passwordFile', database.passwordFile !== undefined && urlUsed],
    ['readOnlyUrl', database.readOnlyUrl !== undefined && urlUsed],
    ['managers', database.managers.length > 0 && urlUsed],
  ];
  return stray
    .filter(([, found]) => found)
    .map(([name]) => ({ where: `database.${name}`, message: 'needs DATABASE_URL' }));
};

interface UrlPart {
  readonly where: string;
  readonly split: DatabaseUrl;
}

const urlProblems = ({ tls }: Database, parts: readonly UrlPart[]): Problem[] => {
  const first = parts[0]?.split.mode;
  return parts.flatMap(({ where, split }) => {
    const modes = [tls, first, split.mode].filter((mode) => mode !== undefined);
    return [
      ...(split.problem === undefined ? [] : [{ where, message: split.problem }]),
      ...(new Set(modes).size > 1
        ? [{ where, message: 'its sslmode contradicts database.tls' }]
        : []),
    ];
  });
};

/** The database section with plain URLs, the passwords of their files in them, and a decided `tls`. */
export const settleDatabase = (
  database: Database,
  problems: Problem[],
  uses: readonly ConfigPart[] = PARTS,
): Database => {
  const { url, ownerUrl, readOnlyUrl, passwordFile, ownerPasswordFile, caFile } = database;
  if (!uses.includes('database') && !uses.includes('owner')) return database;
  if (ownerPasswordFile !== undefined && ownerUrl === undefined) {
    const where = 'database.ownerPasswordFile';
    problems.push({ where, message: 'needs TWOFOLD_DATABASE_OWNER_URL' });
  }
  if (url === undefined) problems.push(...strayProblems(database, uses.includes('database')));
  const server = url === undefined ? [] : [{ where: 'DATABASE_URL', split: splitUrl(url) }];
  const owner =
    ownerUrl === undefined ? [] : [{ where: 'database.ownerUrl', split: splitUrl(ownerUrl) }];
  const standby =
    readOnlyUrl === undefined || url === undefined
      ? []
      : [{ where: 'database.readOnlyUrl', split: splitUrl(readOnlyUrl) }];
  const parts: readonly UrlPart[] = [...server, ...owner, ...standby];
  if (parts.length === 0) return database;
  problems.push(...urlProblems(database, parts));
  const tls =
    database.tls ??
    parts.map(({ split }) => split.mode).find((mode) => mode !== undefined) ??
    // One database for all URLs, so one setting: plain only where neither leaves the machine.
    (parts.every(({ split }) => isLoopback(split.host)) ? 'disable' : 'verify-full');
  if (caFile !== undefined && (tls === 'disable' || tls === 'require')) {
    const message = `is not used with TLS "${tls}"; set database.tls to verify-ca or verify-full`;
    problems.push({ where: 'database.caFile', message });
  }
  const open = ([part]: readonly UrlPart[], use: ConfigPart, name: string, file?: string) =>
    part && withPassword(part.split, uses.includes(use) ? file : undefined, name, problems);
  const plain = open(server, 'database', 'database.passwordFile', passwordFile);
  const plainStandby = open(standby, 'database', 'database.readOnlyUrl', passwordFile);
  const plainOwner = open(owner, 'owner', 'database.ownerPasswordFile', ownerPasswordFile);
  return {
    ...database,
    tls,
    ...(plain !== undefined && { url: plain }),
    ...(plainOwner !== undefined && { ownerUrl: plainOwner }),
    ...(plainStandby !== undefined && { readOnlyUrl: plainStandby }),
  };
};
