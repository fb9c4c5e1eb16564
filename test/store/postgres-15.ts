/** A throw-away cluster of Debian's PostgreSQL 15, to show that the SQL works on the oldest version. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { migrate } from '../../src/store/migrate.ts';
import { copyTemplate } from '../cached.ts';
import { freePort } from '../free-port.ts';
import { madeFrom } from './template.ts';

/** `POSTGRES_BIN` names the programs of another version, which then stands for it. */
const BIN = process.env['POSTGRES_BIN'] ?? '/usr/lib/postgresql/15/bin';
const run = promisify(execFile);

/** The uid of the account that Debian's package makes; PostgreSQL refuses to run as root. */
const postgresUid = (): number | undefined => {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith('postgres:'));
  return line === undefined ? undefined : Number(line.split(':')[2]);
};

const asUser = (): { readonly uid?: number; readonly gid?: number } | undefined => {
  if (process.getuid?.() !== 0) return {};
  const uid = postgresUid();
  return uid === undefined ? undefined : { uid, gid: uid };
};

/** Whether PostgreSQL 15 is installed here and can be run by us. */
export const hasPostgres15 = existsSync(join(BIN, 'postgres')) && asUser() !== undefined;

const connected = async (url: string): Promise<pg.Client> => {
  for (let attempt = 0; ; attempt += 1) {
    const client = new pg.Client({ connectionString: url });
    try {
      await client.connect();
      return client;
    } catch (error) {
      if (attempt > 100) throw error;
      await sleep(50);
    }
  }
};

const settingsFor = (port: number): readonly string[] =>
  ['listen_addresses=127.0.0.1', 'unix_socket_directories=', `port=${port}`].flatMap((setting) => [
    '-c',
    setting,
  ]);

const own = (folder: string): void => {
  const { uid, gid } = asUser() ?? {};
  if (uid !== undefined && gid !== undefined) chownSync(folder, uid, gid);
};

const environment = { PATH: `${BIN}:/usr/bin:/bin`, LC_ALL: 'C.UTF-8' };

const make = async (folder: string): Promise<void> => {
  own(folder);
  const data = join(folder, 'data');
  mkdirSync(data, { mode: 0o700 });
  own(data);
  const initial = ['-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C.UTF-8', '-N'];
  const options = { ...asUser(), env: environment, cwd: folder };
  await run(join(BIN, 'initdb'), ['-D', data, ...initial], options);
  writeFileSync(join(data, 'postgresql.auto.conf'), '');
  const server = await startIn(folder);
  try {
    const admin = await connected(server.url('postgres', 'postgres'));
    await admin.query('create role twofold_owner login; create role twofold_app login');
    await admin.query('create database twofold owner twofold_owner');
    await admin.end();
    await migrate({ url: server.ownerUrl, version: '0.0.0-test' });
  } finally {
    await server.stop();
  }
};

export interface Postgres15 {
  url(role: string, database: string): string;
  readonly ownerUrl: string;
  readonly appUrl: string;
  readonly port: number;
  pid(): number;
  /** It comes back as a standby of nobody: it answers reads, and is in recovery for good. */
  demote(): Promise<void>;
  /** A standby of this one, in an empty folder: a copy that follows it by streaming. */
  standby(folder: string): Promise<Postgres15>;
  stop(): Promise<void>;
}

const startIn = async (folder: string): Promise<Postgres15> => {
  const data = join(folder, 'data');
  const port = await freePort();
  const started = () => {
    const options = { ...asUser(), env: environment, cwd: folder, stdio: 'ignore' } as const;
    return spawn(join(BIN, 'postgres'), ['-D', data, ...settingsFor(port)], options);
  };
  let server = started();
  let exit = once(server, 'exit');
  const url = (role: string, database: string) =>
    `postgresql://${role}:none@127.0.0.1:${port}/${database}`;
  const ready = async () => (await connected(url('postgres', 'postgres'))).end();
  await ready();
  return {
    url,
    ownerUrl: url('twofold_owner', 'twofold'),
    appUrl: url('twofold_app', 'twofold'),
    port,
    pid: () => server.pid ?? 0,
    demote: async () => {
      server.kill('SIGINT');
      await exit;
      writeFileSync(join(data, 'standby.signal'), '');
      server = started();
      exit = once(server, 'exit');
      await ready();
    },
    standby: async (other: string) => {
      own(other);
      const options = { ...asUser(), env: environment, cwd: other };
      const source = `postgresql://postgres:none@127.0.0.1:${port}`;
      const how = ['-D', join(other, 'data'), '-R', '-X', 'stream', '-c', 'fast', '-N'];
      await run(join(BIN, 'pg_basebackup'), ['-d', source, ...how], options);
      return startIn(other);
    },
    stop: async () => {
      server.kill('SIGINT');
      await exit;
    },
  };
};

/** A migrated cluster in an empty folder, copied from one that is made once. */
export const startPostgres15 = async (folder: string) => {
  if (asUser() === undefined) throw new Error('PostgreSQL 15 cannot be run here');
  const files = [...madeFrom(), join(BIN, 'postgres'), import.meta.filename];
  await copyTemplate({ name: 'twofold-test-postgres-15', madeFrom: files, fill: make }, folder);
  return startIn(folder);
};
