/**
 * A migrated, cleanly stopped embedded database: a copy starts in a quarter of a second, where a new
 * cluster takes several under load.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { startEmbedded } from '../../src/store/embedded.ts';
import { MIGRATIONS, migrate } from '../../src/store/migrate.ts';
import { copyTemplate, ROOT } from '../cached.ts';

const fill = async (folder: string): Promise<void> => {
  const server = await startEmbedded({ dataDir: folder });
  try {
    await migrate({ url: server.ownerUrl, version: '0.0.0-test' });
  } finally {
    await server.stop();
  }
};

/** Files that decide what a migrated database holds. */
export const madeFrom = () =>
  [
    ...readdirSync(MIGRATIONS).map((name) => join(MIGRATIONS, name, 'migration.sql')),
    join(ROOT, 'src/store/embedded-cluster.ts'),
    join(ROOT, 'src/store/migrate.ts'),
    join(ROOT, 'package-lock.json'),
  ].filter((file) => existsSync(file));

/** Fills an empty data folder of a database. */
export const copyDatabase = (dataDir: string): Promise<void> =>
  copyTemplate({ name: 'twofold-test-database', madeFrom: madeFrom(), fill }, dataDir);
