/** The password of the server's role changed under load, in either order, on a real PostgreSQL with SCRAM. */
import { randomBytes } from 'node:crypto';
import { rmSync, mkdtempSync, writeFileSync, renameSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PrismaPg } from '@prisma/adapter-pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { readPasswordFile } from '../../src/config.ts';
import { PrismaClient } from '../../src/store/generated/client.ts';
import { sqlState } from '../../src/store/outcome.ts';
import { Passwords } from '../../src/store/password.ts';
import { createPool } from '../../src/store/pool.ts';
import type { GuardedPool } from '../../src/store/pool.ts';
import { openStore } from '../../src/store/store.ts';
import { commitStatement, read } from '../../src/store/transaction.ts';
import { startTestDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';
import { eventually } from './eventually.ts';

let database: TestDatabase;
let role: pg.Client;
let folder: string;
let file: string;
let password: string;

const text = () => randomBytes(12).toString('base64url');
const put = (content: string) => {
  writeFileSync(`${file}.new`, content, { mode: 0o600 });
  renameSync(`${file}.new`, file);
};
/** As the role sees it at once; connections that are open stay. */
const alter = async (to: string) => {
  await role.query(`alter role twofold_app password '${to}'`);
};
const urlOf = (secret: string) => {
  const url = new URL(database.appUrl);
  url.password = secret;
  return url.toString();
};

beforeAll(async () => {
  database = await startTestDatabase();
  // A role may change its own password.
  role = new pg.Client({ connectionString: database.appUrl });
  await role.connect();
  folder = mkdtempSync(join(tmpdir(), 'twofold-password-'));
  file = join(folder, 'server.password');
}, 60_000);
afterAll(async () => {
  await role.end();
  await database.stop();
  rmSync(folder, { recursive: true });
}, 60_000);

let told: string[];
let passwords: Passwords;
let pool: GuardedPool;
const open = () => {
  told = [];
  passwords = new Passwords(() => readPasswordFile(file), {
    onChange: () => told.push('changed'),
    onRefusal: () => told.push('refused'),
  });
  return createPool({ url: urlOf(''), passwords, max: 4 });
};
beforeEach(async () => {
  password = text();
  await alter(password);
  put(`${password}\n`);
  pool = open();
});
let load: Load | undefined;
afterEach(async () => {
  await load?.stop();
  load = undefined;
  await pool.end();
});

const refusedBy = async (secret: string): Promise<string | undefined> => {
  const client = new pg.Client({ connectionString: urlOf(secret) });
  try {
    await client.connect();
    return undefined;
  } catch (error) {
    return sqlState(error);
  } finally {
    await client.end().catch(() => undefined);
  }
};

/** Commits over and over, each time over a connection that was made for it. */
class Load {
  readonly failures: unknown[] = [];
  done = 0;
  #stopped = false;
  readonly #running: Promise<void>[];

  constructor(callers: number) {
    this.#running = Array.from({ length: callers }, () => this.#run());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      await commitStatement(pool, 'select pg_backend_pid()').then(
        () => (this.done += 1),
        (error: unknown) => this.failures.push(error),
      );
      // What was used goes, so that every call logs in.
      const client = await pool.connect().catch(() => undefined);
      client?.release(true);
    }
  }
}

const loaded = (): Load => (load = new Load(3));

describe('a password that changes under load', () => {
  it('role first, then file: no call fails, and the old one is refused', async () => {
    const load = loaded();
    await eventually(async () => load.done > 10);
    const next = text();
    await alter(next);
    await sleep(700);
    put(`${next}\n`);
    const { done } = load;
    await eventually(async () => load.done > done + 10);
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(await refusedBy(password)).toBe('28P01');
    // Logins that began before and end after may have the former one refused once more.
    expect(told[0]).toBe('refused');
    expect(told.filter((each) => each === 'changed')).toHaveLength(1);
    expect(passwords.refusing).toBe(false);
  }, 60_000);

  it('file first, then role: calls go on with the former one however long that takes', async () => {
    const load = loaded();
    await eventually(async () => load.done > 10);
    const next = text();
    put(next);
    await eventually(async () => told.includes('refused'));
    expect(passwords.refusing).toBe(true);
    // Longer than any call waits.
    await sleep(3_500);
    const { done } = load;
    await eventually(async () => load.done > done + 10);
    await alter(next);
    await eventually(async () => told.includes('changed'));
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(await refusedBy(password)).toBe('28P01');
    expect(passwords.refusing).toBe(false);
  }, 60_000);

  it('a file that is empty, half-written, open to others or gone is lived through', async () => {
    const load = loaded();
    await eventually(async () => load.done > 10);
    const progress = async () => {
      const { done } = load;
      await eventually(async () => load.done > done + 5);
    };
    put('');
    await progress();
    put(password.slice(0, 4));
    await progress();
    put(password);
    chmodSync(file, 0o644);
    await progress();
    rmSync(file);
    await progress();
    put(password);
    await progress();
    await load.stop();
    expect(load.failures).toEqual([]);
  }, 60_000);
});

describe('reads by Prisma', () => {
  it('wait for the password as what commits does', async () => {
    const prisma = new PrismaClient({ adapter: new PrismaPg(pool) });
    const next = text();
    await alter(next);
    const reading = read(async () => prisma.security_epoch.findMany());
    await eventually(async () => told.includes('refused'));
    put(next);
    expect(await reading).toHaveLength(1);
    await prisma.$disconnect();
  }, 30_000);
});

describe('the listener', () => {
  it('comes back with the new password when its connection is cut', async () => {
    const store = openStore({ url: urlOf(''), passwords });
    const heard: number[] = [];
    const listener = store.listen((epoch) => heard.push(epoch));
    await eventually(async () => heard.length > 0);
    const next = text();
    await alter(next);
    put(next);
    const before = heard.length;
    await role.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where usename = 'twofold_app' and pid <> pg_backend_pid()`,
    );
    await eventually(async () => heard.length > before);
    await listener.close();
    await store.close();
  }, 30_000);
});

describe('a trial', () => {
  it('says whether the file is right, and leaves what is open alone', async () => {
    const store = openStore({ url: urlOf(''), passwords });
    await store.tryPassword();
    put('wrong');
    await expect(store.tryPassword()).rejects.toMatchObject({ code: '28P01' });
    expect(passwords.refusing).toBe(true);
    expect(await store.serverVersion()).toMatch(/^\d/u);
    put(password);
    await store.tryPassword();
    expect(passwords.refusing).toBe(false);
    await store.close();
  }, 30_000);

  it('that fails says nothing of any password', async () => {
    const store = openStore({ url: urlOf(''), passwords });
    put('a-secret-that-is-wrong');
    const error: unknown = await store.tryPassword().catch((thrown: unknown) => thrown);
    const { message, stack = '', cause } = error as Error;
    expect(`${message} ${stack} ${String(cause)} ${JSON.stringify(error)}`).not.toMatch(
      /a-secret-that/u,
    );
    await store.close();
  }, 30_000);
});

describe('a password that never was right', () => {
  it('is offered until the deadline, and then the database is unavailable', async () => {
    put('wrong');
    const failure = commitStatement(pool, 'select 1', [], { deadlineMs: 600 });
    await expect(failure).rejects.toMatchObject({ code: 'database_unavailable' });
    put('');
    const unreadable = commitStatement(pool, 'select 1', [], { deadlineMs: 300 });
    await expect(unreadable).rejects.toMatchObject({ code: 'database_unavailable' });
  }, 30_000);
});
