/** The database of a configuration: the embedded one of development, or the one that is named. */
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { startEmbedded } from '../store/embedded.ts';
import { assertMigrated, migrate } from '../store/migrate.ts';
import type { PoolOptions } from '../store/pool.ts';
import { openStore } from '../store/store.ts';
import type { Store } from '../store/store.ts';
import { whenReachable } from './patience.ts';
import type { Unwinding } from './unwinding.ts';

export interface DatabaseLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

interface Urls {
  readonly app: string;
  readonly owner: string | undefined;
}

async function urlsOf(config: Config, log: DatabaseLog, unwinding: Unwinding): Promise<Urls> {
  const { url, ownerUrl } = config.database;
  if (url !== undefined) return { app: url, owner: ownerUrl };
  if (config.mode !== 'dev') throw new TwofoldError('invalid_value', 'database.url is missing.');
  const embedded = await startEmbedded({
    dataDir: config.dataDir,
    log: (message) => log.info({}, message),
  });
  unwinding.add('embedded database', () => embedded.stop());
  return { app: embedded.appUrl, owner: embedded.ownerUrl };
}

/** Starts or finds the database, brings its schema up to date, and opens the ports over it. */
export async function openDatabase(
  config: Config,
  version: string,
  log: DatabaseLog,
  unwinding: Unwinding,
): Promise<Store> {
  const urls = await urlsOf(config, log, unwinding);
  const { tls, caFile, poolSize } = config.database;
  const onWait = (err: unknown) => log.warn({ err }, 'the start waits for the database');
  if (urls.owner !== undefined) {
    const options = { url: urls.owner, tls, caFile, version };
    const applied = await whenReachable(() => migrate(options), unwinding, onWait);
    if (applied.length > 0) log.info({ applied }, 'migrations were applied');
  }
  const options: PoolOptions = {
    url: urls.app,
    tls,
    caFile,
    max: poolSize,
    onConnectionLost: (error) => log.warn({ err: error }, 'a database connection was lost'),
  };
  const store = openStore(options);
  unwinding.add('database pool', () => store.close());
  if (urls.owner === undefined)
    await whenReachable(() => assertMigrated(store.pool), unwinding, onWait);
  return store;
}
