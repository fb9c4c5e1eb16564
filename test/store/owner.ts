/** A connection as the owner, for what the server's role may not do. */
import pg from 'pg';
import type { TestDatabase } from './database.ts';

export const withClient = async <T>(
  url: string,
  use: (client: pg.Client) => Promise<T>,
): Promise<T> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
};

export const withOwner = <T>(
  database: TestDatabase,
  use: (client: pg.Client) => Promise<T>,
): Promise<T> => withClient(database.ownerUrl, use);

/** What one statement of the owner answers. */
export const rowsAsOwner = <T>(
  database: TestDatabase,
  sql: string,
  values: readonly unknown[] = [],
): Promise<T[]> =>
  withOwner(database, async (client) => (await client.query(sql, [...values])).rows as T[]);
