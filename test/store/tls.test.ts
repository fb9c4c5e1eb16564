import { appendFileSync, chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startEmbedded } from '../../src/store/embedded.ts';
import type { EmbeddedDatabase } from '../../src/store/embedded.ts';
import { createPool } from '../../src/store/pool.ts';
import type { DatabaseTls } from '../../src/store/pool.ts';
import { makeCertificate } from '../config/certificate.ts';

let folder: string;
let database: EmbeddedDatabase;
const at = (name: string) => join(folder, name);

/** Whether the connection is encrypted; rejects when it is not made. */
const encrypted = async (
  tls: DatabaseTls,
  caFile?: string,
  host = '127.0.0.1',
): Promise<boolean> => {
  const url = database.appUrl.replace('127.0.0.1', host);
  const pool = createPool({ url, tls, caFile, connectDeadlineMs: 15_000 });
  try {
    const sql = 'select ssl from pg_stat_ssl where pid = pg_backend_pid()';
    return (await pool.query<{ ssl: boolean }>(sql)).rows[0]?.ssl ?? false;
  } finally {
    await pool.end();
  }
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-tls-'));
  await (await startEmbedded({ dataDir: folder })).stop();
  const { certificate, key } = makeCertificate('IP:127.0.0.1');
  writeFileSync(at('ca.pem'), certificate);
  writeFileSync(at('other.pem'), makeCertificate().certificate);
  writeFileSync(at('db/cluster/server.crt'), certificate);
  writeFileSync(at('db/cluster/server.key'), key);
  chmodSync(at('db/cluster/server.key'), 0o600);
  appendFileSync(at('db/cluster/postgresql.conf'), '\nssl = on\n');
  database = await startEmbedded({ dataDir: folder });
}, 60_000);

afterAll(async () => {
  await database.stop();
  rmSync(folder, { recursive: true });
});

describe('TLS to the database', () => {
  it.each<[DatabaseTls, string | undefined, boolean]>([
    ['disable', undefined, false],
    ['require', undefined, true],
    ['verify-ca', 'ca.pem', true],
    ['verify-full', 'ca.pem', true],
  ])('%s', async (tls, ca, expected) => {
    expect(await encrypted(tls, ca === undefined ? undefined : at(ca))).toBe(expected);
  });

  it.each<DatabaseTls>(['verify-ca', 'verify-full'])(
    '%s refuses an unknown authority',
    async (tls) => {
      await expect(encrypted(tls, at('other.pem'))).rejects.toThrow(/certificate/u);
      await expect(encrypted(tls)).rejects.toThrow(/certificate/u);
    },
  );

  it('verify-full refuses another name, verify-ca does not look at it', async () => {
    await expect(encrypted('verify-full', at('ca.pem'), 'localhost')).rejects.toThrow(/altnames/u);
    expect(await encrypted('verify-ca', at('ca.pem'), 'localhost')).toBe(true);
  });
});
