/**
 * A migrated database for one test file: an embedded PostgreSQL 18 of its own in a temporary folder,
 * or Debian's PostgreSQL 15 where it is installed.
 *
 *   let database: TestDatabase;
 *   beforeAll(async () => { database = await startTestDatabase(); }, 60_000);
 *   afterAll(() => database.stop());
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbedded } from '../../src/store/embedded.ts';
import { migrate } from '../../src/store/migrate.ts';
import { startPostgres15 } from './postgres-15.ts';
import { copyDatabase } from './template.ts';

export interface TestDatabase {
  /** Owns every table. */
  readonly ownerUrl: string;
  /** The server's role. */
  readonly appUrl: string;
  readonly port: number;
  /** Process id of the database server. */
  pid(): number;
  stop(): Promise<void>;
}

export interface TestDatabaseOptions {
  /** 18 by default; see `hasPostgres15`. */
  readonly major?: 15 | 18;
}

const start18 = async (folder: string) => {
  await copyDatabase(folder);
  return startEmbedded({ dataDir: folder });
};

export const startTestDatabase = async ({
  major = 18,
}: TestDatabaseOptions = {}): Promise<TestDatabase> => {
  const folder = await mkdtemp(join(tmpdir(), 'twofold-test-db-'));
  const server = await (major === 18 ? start18(folder) : startPostgres15(folder)).catch(
    async (error: unknown) => {
      await rm(folder, { recursive: true, force: true });
      throw error;
    },
  );
  const stop = async (): Promise<void> => {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await migrate({ url: server.ownerUrl, version: '0.0.0-test' });
  } catch (error) {
    await stop();
    throw error;
  }
  const { ownerUrl, appUrl, port } = server;
  return { ownerUrl, appUrl, port, pid: () => server.pid(), stop };
};
