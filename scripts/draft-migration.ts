/** See `scripts/draft-migration`. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbedded } from '../src/store/embedded.ts';
import { MIGRATIONS, migrate } from '../src/store/migrate.ts';
import { schemaDiff } from './schema-diff.ts';

const draft = async (): Promise<string | undefined> => {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-draft-'));
  const database = await startEmbedded({ dataDir: folder });
  try {
    await migrate({ url: database.ownerUrl, version: 'draft' });
    const { empty, sql } = await schemaDiff(database.ownerUrl);
    return empty ? undefined : sql;
  } finally {
    await database.stop();
    rmSync(folder, { recursive: true });
  }
};

const [name] = process.argv.slice(2);
if (name === undefined || !/^\d{4}_[a-z0-9_]+$/u.test(name) || existsSync(join(MIGRATIONS, name))) {
  console.error('usage: scripts/draft-migration NNNN_new_name');
  process.exit(2);
}
const sql = await draft();
if (sql === undefined) {
  console.log('The migrations and prisma/schema.prisma agree; nothing to draft.');
} else {
  mkdirSync(join(MIGRATIONS, name));
  writeFileSync(join(MIGRATIONS, name, 'migration.sql'), sql);
  console.log(`prisma/migrations/${name}/migration.sql: drafted; finish it by hand.`);
}
