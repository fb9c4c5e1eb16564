/** The database of a configuration: the embedded one of development, or the one that is named. */
import { readPasswordFile } from '../config.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { findEmbedded, startEmbedded } from '../store/embedded.ts';
import { assertMigrated, migrate } from '../store/migrate.ts';
import { Passwords } from '../store/password.ts';
import type { PoolOptions } from '../store/pool.ts';
import { openStore } from '../store/store.ts';
import type { LogReader } from '../audit/log-ports.ts';
import { StandbyEntries } from '../audit/standby-entries.ts';
import type { StandbyAnswer } from '../audit/standby-entries.ts';
import type { Store } from '../store/store.ts';
import { whenReachable } from './patience.ts';
import { requireNoneBegun, requireRestored } from './restoration.ts';
import type { Unwinding } from './unwinding.ts';

export interface DatabaseLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

interface Urls {
  readonly app: string;
  readonly owner: string | undefined;
}

/** Connections that an embedded database has room for beside the pools: migrations, listeners, commands. */
const SPARE_CONNECTIONS = 30;

async function urlsOf(config: Config, log: DatabaseLog, unwinding: Unwinding): Promise<Urls> {
  const { url, ownerUrl } = config.database;
  if (url !== undefined) return { app: url, owner: ownerUrl };
  if (config.mode !== 'dev') throw new TwofoldError('invalid_value', 'database.url is missing.');
  const embedded = await startEmbedded({
    dataDir: config.dataDir,
    connections: config.workers * (config.database.poolSize + 1) + SPARE_CONNECTIONS,
    log: (message) => log.info({}, message),
  });
  unwinding.add('embedded database', () => embedded.stop());
  return { app: embedded.appUrl, owner: embedded.ownerUrl };
}

/** Told once that a start has to wait. */
const onWait = (log: DatabaseLog) => (err: unknown) => {
  log.warn({ err }, 'the start waits for the database');
};

/** Starts or finds the database, and brings its schema up to date where it has the owner's URL. */
export async function prepareDatabase(
  config: Config,
  version: string,
  log: DatabaseLog,
  unwinding: Unwinding,
): Promise<Urls> {
  requireNoneBegun(config);
  const urls = await urlsOf(config, log, unwinding);
  const { tls, caFile } = config.database;
  if (urls.owner !== undefined) {
    const options = { url: urls.owner, tls, caFile, version };
    const applied = await whenReachable(() => migrate(options), unwinding, onWait(log));
    if (applied.length > 0) log.info({ applied }, 'migrations were applied');
  }
  return urls;
}

/** The same where another process has prepared it: the embedded one is that of the data folder. */
export function findDatabase({ dataDir, database: { url } }: Config): Urls {
  const app = url ?? findEmbedded(dataDir)?.appUrl;
  if (app === undefined) {
    throw new TwofoldError('database_unavailable', `The database of ${dataDir} does not run.`);
  }
  return { app, owner: undefined };
}

/** Where the password comes from a file, connections ask for it there, and the URL has none. */
function loginOf(
  { database: { url, passwordFile } }: Config,
  { app }: Urls,
  log: DatabaseLog,
  onChange: () => void,
): Pick<PoolOptions, 'url' | 'passwords'> {
  if (url === undefined || passwordFile === undefined) return { url: app };
  const plain = new URL(app);
  plain.password = '';
  const passwords = new Passwords(() => readPasswordFile(passwordFile), {
    onChange,
    onRefusal: () => log.error({ passwordFile }, 'the database refuses the password of its file'),
  });
  return { url: plain.toString(), passwords };
}

/** Statements and connections of the standby end sooner: the primary is asked next. */
const STANDBY_MS = 1_000;

/** Pool of the standbys, where they are named. */
function standbyOf(
  { database: { readOnlyUrl, passwordFile, tls, caFile, poolSize } }: Config,
  onConnectionLost: PoolOptions['onConnectionLost'],
): PoolOptions | null {
  if (readOnlyUrl === undefined) return null;
  const url = new URL(readOnlyUrl);
  if (passwordFile !== undefined) url.password = '';
  return {
    url: url.toString(),
    ...(passwordFile !== undefined && {
      passwords: new Passwords(() => readPasswordFile(passwordFile)),
    }),
    ...{ tls, caFile, onConnectionLost },
    max: Math.ceil(poolSize / 3),
    statementDeadlineMs: STANDBY_MS,
    connectDeadlineMs: STANDBY_MS,
  };
}

/** What a service reads and writes. */
export interface ServedStore extends Store {
  /**
   * The log for whoever reads much of it: entries come from a standby, where one is named. `log` is of the
   * primary alone, for whoever looks whether it is right.
   */
  readonly logCopy: LogReader;
  /** What came of asking the standby; null where none is named. */
  readonly standbyAnswers: () => Readonly<Record<StandbyAnswer, number>> | null;
}

/** What becomes of asking the standby is logged when it changes. */
function served(store: Store, log: DatabaseLog): ServedStore {
  const { standby } = store;
  if (standby === null) return { ...store, logCopy: store.log, standbyAnswers: () => null };
  let last: StandbyAnswer = 'taken';
  const copies = new StandbyEntries({
    primary: store.log,
    standby: standby.entries,
    onAnswer: (answer, err) => {
      if (answer === last) return;
      last = answer;
      if (answer === 'taken') log.info({}, 'entries of the log are read from a standby again');
      else log.warn({ answer, err }, 'entries of the log are read from the primary');
    },
  });
  return {
    ...store,
    logCopy: { ...store.log, entries: copies.entries },
    standbyAnswers: () => copies.answers,
  };
}

/** Opens the ports over a database that was prepared. `onPassword`: it took another password than before. */
export async function openStoreOf(
  config: Config,
  urls: Urls,
  log: DatabaseLog,
  unwinding: Unwinding,
  onPassword: () => void = () => undefined,
): Promise<ServedStore> {
  const { tls, caFile, poolSize } = config.database;
  const onConnectionLost = (error: Error) =>
    log.warn({ err: error }, 'a database connection was lost');
  const options: PoolOptions = {
    ...loginOf(config, urls, log, onPassword),
    tls,
    caFile,
    max: poolSize,
    onConnectionLost,
  };
  const store = openStore(options, standbyOf(config, onConnectionLost));
  unwinding.add('database pool', () => store.close());
  if (urls.owner === undefined) {
    await whenReachable(() => assertMigrated(store.pool), unwinding, onWait(log));
  }
  await whenReachable(() => requireRestored(store), unwinding, onWait(log));
  return served(store, log);
}
