/** Commits of one small row each on a PostgreSQL of its own, one after the other: JSON on stdout. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pg from 'pg';

import { startEmbedded } from '../src/store/embedded.ts';

const ENTRY_BYTES = 400;
const [milliseconds = '2000'] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'twofold-commit-'));
const database = await startEmbedded({ dataDir: folder });
try {
  const client = new pg.Client({ connectionString: database.ownerUrl });
  await client.connect();
  await client.query('create table bare (n bigserial primary key, body bytea not null)');
  const insert = { name: 'bare', text: 'insert into bare (body) values ($1)' };
  const began = performance.now();
  let commits = 0;
  while (performance.now() - began < Number(milliseconds)) {
    await client.query({ ...insert, values: [randomBytes(ENTRY_BYTES)] });
    commits += 1;
  }
  const perSecond = (commits * 1000) / (performance.now() - began);
  await client.end();
  process.stdout.write(JSON.stringify({ perSecond }));
} finally {
  await database.stop();
  rmSync(folder, { recursive: true, force: true });
}
