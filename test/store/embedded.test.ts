import { spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { lockDataFolder } from '../../src/data-folder.ts';
import { TwofoldError } from '../../src/errors.ts';
import { hasEmbedded, startEmbedded } from '../../src/store/embedded.ts';
import type { EmbeddedDatabase } from '../../src/store/embedded.ts';
import { createPool } from '../../src/store/pool.ts';
import { processesIn, startChild } from './embedded-harness.ts';
import { stopwatch } from '../waited.ts';

let folder: string;
let running: EmbeddedDatabase | undefined;

const start = async (): Promise<EmbeddedDatabase> => {
  running = await startEmbedded({ dataDir: folder });
  return running;
};

const stop = async (): Promise<void> => {
  await running?.stop();
  running = undefined;
};

const ask = async <T>(url: string, sql: string): Promise<T | undefined> => {
  // A database that has only started answers late on a busy machine.
  const pool = createPool({ url, connectDeadlineMs: 15_000 });
  try {
    return (await pool.query<{ answer: T }>(sql)).rows[0]?.answer;
  } finally {
    await pool.end();
  }
};

// Made once and copied: making a database is most of what these tests would otherwise wait for.
let template: string;

beforeAll(async () => {
  template = mkdtempSync(join(tmpdir(), 'twofold-embedded-template-'));
  await (await startEmbedded({ dataDir: template })).stop();
}, 60_000);

afterAll(() => {
  rmSync(template, { recursive: true });
});

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-embedded-'));
  cpSync(template, folder, { recursive: true });
});

afterEach(async () => {
  await stop();
  expect(processesIn(folder)).toEqual([]);
  rmSync(folder, { recursive: true });
}, 60_000);

describe('embedded database', () => {
  it('starts, serves both roles, stops, and keeps its data', async () => {
    const first = await start();
    expect(await ask(first.ownerUrl, 'select current_user::text as answer')).toBe('twofold_owner');
    expect(await ask(first.appUrl, 'select current_user::text as answer')).toBe('twofold_app');
    await ask(first.ownerUrl, 'create table kept as select 7 as answer');
    const { pid } = first;
    await stop();
    expect(existsSync(`/proc/${pid()}`)).toBe(false);
    const made = () => statSync(join(folder, 'db/cluster/PG_VERSION')).ino;
    const [before, elapsed] = [made(), stopwatch()];
    const second = await start();
    expect(elapsed()).toBeLessThan(10_000);
    expect(made()).toBe(before);
    expect(await ask(second.ownerUrl, 'select answer from kept')).toBe(7);
  }, 60_000);

  it('is closed to others: modes, network, password, socket, session', async () => {
    const { ownerUrl, pid, port } = await start();
    const others = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => {
      const entry = statSync(join(folder, name), { throwIfNoEntry: false });
      return entry !== undefined && (entry.mode & 0o077) !== 0;
    });
    expect(others).toEqual([]);
    const show = (name: string) => ask(ownerUrl, `select current_setting('${name}') as answer`);
    expect(await show('listen_addresses')).toBe('127.0.0.1');
    const argument = 'unix_socket_directories=\0';
    expect(readFileSync(`/proc/${pid()}/cmdline`, 'utf8')).toContain(argument);
    expect(await show('password_encryption')).toBe('scram-sha-256');
    expect(await show('fsync')).toBe('on');
    const rules = readFileSync(join(folder, 'db/cluster/pg_hba.conf'), 'utf8')
      .split('\n')
      .filter((line) => /^\s*(?:local|host)/u.test(line));
    expect(rules.length).toBeGreaterThan(0);
    expect(rules.filter((line) => !line.trim().endsWith('scram-sha-256'))).toEqual([]);
    const anonymous = `postgresql://twofold_owner:wrong@127.0.0.1:${port}/twofold`;
    await expect(ask(anonymous, 'select 1 as answer')).rejects.toMatchObject({ code: '28P01' });
    const session = (id: number | 'self') =>
      readFileSync(`/proc/${id}/stat`, 'utf8')
        .replace(/^.*\) /su, '')
        .split(' ')[3];
    expect(session(pid())).not.toBe(session('self'));
    expect(readFileSync(`/proc/${pid()}/cmdline`, 'utf8')).not.toContain(
      new URL(ownerUrl).password,
    );
  }, 60_000);

  it('gives the app role nothing but a connection', async () => {
    const { appUrl } = await start();
    await expect(ask(appUrl, 'create table t (i int)')).rejects.toMatchObject({ code: '42501' });
    const rights = `select (rolsuper or rolcreatedb or rolcreaterole or rolreplication) as answer
      from pg_roles where rolname = current_user`;
    expect(await ask(appUrl, rights)).toBe(false);
  }, 60_000);

  it('writes no statement and no value into its log', async () => {
    const { ownerUrl } = await start();
    const marker = 'marker-7f3a';
    await ask(ownerUrl, `select '${marker}'::int as answer`).catch(() => undefined);
    await ask(ownerUrl, `create table u (v text primary key)`);
    await ask(ownerUrl, `insert into u values ('${marker}')`);
    await ask(ownerUrl, `insert into u values ('${marker}')`).catch(() => undefined);
    await stop();
    const log = readFileSync(join(folder, 'db/server.log'), 'utf8');
    expect(log).toContain('database system is ready');
    expect(log).not.toContain(`insert into u`);
    expect(log.includes(`(v)=(${marker})`)).toBe(false);
  }, 60_000);

  it('is started again on its port when it is killed', async () => {
    const { ownerUrl, pid } = await start();
    await ask(ownerUrl, 'create table kept as select 9 as answer');
    const first = pid();
    process.kill(first, 'SIGKILL');
    const pool = createPool({ url: ownerUrl });
    let answer: unknown;
    for (let n = 0; n < 200 && answer === undefined; n += 1) {
      answer = await pool.query<{ answer: number }>('select answer from kept').then(
        ({ rows }) => (pid() === first ? undefined : rows[0]?.answer),
        () => undefined,
      );
      await sleep(50);
    }
    await pool.end();
    expect(answer).toBe(9);
  }, 60_000);

  it('stops an orphan and goes on over its data', async () => {
    const child = startChild(folder);
    const orphan = await child.ready;
    await child.kill();
    expect(processesIn(folder)).toContain(orphan.pid);
    const { pid, ownerUrl } = await start();
    expect(processesIn(folder)).not.toContain(orphan.pid);
    expect(pid()).not.toBe(orphan.pid);
    expect(await ask(ownerUrl, 'select 1 as answer')).toBe(1);
  }, 60_000);

  it('takes no foreign process for an orphan, though a stale pid file names it', async () => {
    const foreign = spawn('sleep', ['60'], { stdio: 'ignore' });
    const file = join(folder, 'db/cluster/postmaster.pid');
    writeFileSync(file, `${foreign.pid}\n${join(folder, 'db/cluster')}\n1\n5432\n\n\n\n`);
    await start();
    expect(foreign.exitCode).toBeNull();
    expect(foreign.signalCode).toBeNull();
    foreign.kill();
  }, 60_000);

  it('removes what an interrupted initdb left', async () => {
    rmSync(join(folder, 'db'), { recursive: true });
    const half = join(folder, 'db.new-00000000-0000-4000-8000-000000000000');
    mkdirSync(join(half, 'cluster/global'), { recursive: true });
    writeFileSync(join(half, 'cluster/PG_VERSION'), '18\n');
    await start();
    expect(existsSync(half)).toBe(false);
  }, 60_000);

  const asRoot = process.geteuid?.() === 0 ? it : it.skip;

  asRoot(
    'runs as an existing account where root has no user namespaces, or says what to do',
    async () => {
      rmSync(join(folder, 'db'), { recursive: true });
      const closed = await startEmbedded({ dataDir: folder, namespaces: () => false }).then(
        async (database) => {
          running = database;
          const notes: string[] = [];
          expect(statSync(`/proc/${database.pid()}`).uid).not.toBe(0);
          expect(await ask(database.appUrl, 'select 1 as answer')).toBe(1);
          await stop();
          running = await startEmbedded({
            dataDir: folder,
            namespaces: () => false,
            log: (note) => notes.push(note),
          });
          expect(notes).toHaveLength(1);
          expect(statSync(join(folder, 'db/credentials.json')).mode & 0o777).toBe(0o600);
          await stop();
          const nested = join(folder, 'closed/data');
          mkdirSync(nested, { recursive: true });
          chmodSync(join(folder, 'closed'), 0o700);
          return startEmbedded({ dataDir: nested, namespaces: () => false }).catch(
            (e: unknown) => e,
          );
        },
        (error: unknown) => error,
      );
      // A clone inside a closed folder cannot be reached at all; that is the same message.
      expect(TwofoldError.is(closed, 'database_unavailable')).toBe(true);
    },
    60_000,
  );

  it.each<[string, (file: string) => void]>([
    ['missing', (file) => rmSync(file)],
    ['cut', (file) => writeFileSync(file, '{"owner":"secret-marker')],
    ['without a password', (file) => writeFileSync(file, '{"owner":"secret-marker"}')],
  ])('says which file of passwords is %s, and quotes nothing of it', async (_what, damage) => {
    const file = join(folder, 'db/credentials.json');
    damage(file);
    const refused = await start().catch((error: unknown) => error);
    expect(refused).toMatchObject({
      code: 'invalid_value',
      detail: expect.stringContaining(file) as unknown,
    });
    expect(String(refused)).not.toContain('secret-marker');
    expect(() => hasEmbedded(folder)).toThrow(file);
  });

  it('says so when the folder cannot hold it', async () => {
    rmSync(join(folder, 'db/cluster/global'), { recursive: true });
    await expect(start()).rejects.toMatchObject({ code: 'database_unavailable' });
  }, 60_000);
});

describe('data folder', () => {
  it('is made private and locked for one process at a time', async () => {
    const dir = join(folder, 'data');
    mkdirSync(dir, { mode: 0o755 });
    const held = await lockDataFolder(dir);
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    await expect(lockDataFolder(dir)).rejects.toMatchObject({ code: 'conflict' });
    await expect(lockDataFolder(dir)).rejects.toThrow(String(process.pid));
    held.release();
    held.release();
    (await lockDataFolder(dir)).release();
  });

  it('is free again as soon as its holder is killed, though the database lives on', async () => {
    const child = startChild(folder);
    await child.ready;
    await expect(lockDataFolder(folder)).rejects.toMatchObject({ code: 'conflict' });
    await child.kill();
    const held = await lockDataFolder(folder);
    await start();
    held.release();
  }, 60_000);

  it('refuses what is no folder of ours', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    const error = await lockDataFolder(file).catch((reason: unknown) => reason);
    expect(TwofoldError.is(error, 'invalid_value')).toBe(true);
  });
});
