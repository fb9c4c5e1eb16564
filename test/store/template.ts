/**
 * A migrated, cleanly stopped embedded database, kept under `node_modules/.cache` and copied for each
 * test file: a copy starts in a quarter of a second, where a new cluster takes several under load.
 */
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { cp, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { startEmbedded } from '../../src/store/embedded.ts';
import { MIGRATIONS, migrate } from '../../src/store/migrate.ts';

const ROOT = join(import.meta.dirname, '../..');
const CACHE = join(ROOT, 'node_modules/.cache/twofold-test-database');

/** Everything that a template is made from: another content is another template. */
const identity = (): string => {
  const files = [
    ...readdirSync(MIGRATIONS).map((name) => join(MIGRATIONS, name, 'migration.sql')),
    join(ROOT, 'src/store/embedded-cluster.ts'),
    join(ROOT, 'src/store/migrate.ts'),
    join(ROOT, 'package-lock.json'),
  ].filter((file) => existsSync(file));
  const hash = createHash('sha256');
  for (const file of files) hash.update(readFileSync(file));
  return hash.digest('hex').slice(0, 16);
};

/** Of several processes that make the same template, the first to rename wins. */
const make = async (template: string): Promise<void> => {
  const folder = `${template}.new-${randomUUID()}`;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  try {
    const server = await startEmbedded({ dataDir: folder });
    try {
      await migrate({ url: server.ownerUrl, version: '0.0.0-test' });
    } finally {
      await server.stop();
    }
    await rename(folder, template).catch((error: unknown) => {
      if (!existsSync(template)) throw error;
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

/** Fills an empty data folder. */
export const copyTemplate = async (dataDir: string): Promise<void> => {
  const template = join(CACHE, identity());
  if (!existsSync(template)) await make(template);
  await cp(template, dataDir, { recursive: true });
};
