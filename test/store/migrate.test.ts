import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { assertMigrated, migrate, NEEDED } from '../../src/store/migrate.ts';
import { createPool } from '../../src/store/pool.ts';
import type { GuardedPool } from '../../src/store/pool.ts';
import { schemaDiff } from '../../scripts/schema-diff.ts';
import { readFileSync } from 'node:fs';
import { startTestDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';

let database: TestDatabase;
let owner: GuardedPool;
let dir: string;

const FUNCTION = `create function twice(i int) returns int language plpgsql as $$
begin return i * 2; end; $$;
insert into one values (twice(21));`;

const write = (name: string, sql: string): void => {
  mkdirSync(join(dir, name), { recursive: true });
  writeFileSync(join(dir, name, 'migration.sql'), sql);
};

const go = (version = '1.0.0') => migrate({ url: database.ownerUrl, version, dir });

beforeAll(async () => {
  database = await startTestDatabase();
  owner = createPool({ url: database.ownerUrl });
}, 60_000);

afterAll(async () => {
  await owner.end();
  await database.stop();
});

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'twofold-migrations-'));
  await owner.query(
    'drop table if exists twofold_migration, one, two; drop function if exists twice',
  );
});

afterEach(() => {
  rmSync(dir, { recursive: true });
});

describe('migrate', () => {
  it('applies whole files, functions included, once', async () => {
    write('0001_one', 'create table one (i int);');
    write('0002_two', FUNCTION);
    expect(await go()).toEqual(['0001_one', '0002_two']);
    expect(await go()).toEqual([]);
    expect((await owner.query('select i from one')).rows).toEqual([{ i: 42 }]);
  });

  it('waits for who reads a table without holding up those who come after', async () => {
    write('0001_one', 'create table one (i int);');
    await go();
    write('0002_more', 'alter table one add column j int;');
    const reader = await owner.connect();
    let longest = 0;
    try {
      await reader.query('begin');
      await reader.query('select from one');
      const migrating = go();
      // Until it has waited once, and others with it.
      const until = performance.now() + 10_000;
      while (longest <= 100 && performance.now() < until) {
        const began = performance.now();
        await owner.query('select from one');
        longest = Math.max(longest, performance.now() - began);
      }
      await reader.query('commit');
      expect(await migrating).toEqual(['0002_more']);
    } finally {
      reader.release();
    }
    expect(longest).toBeGreaterThan(100);
    expect(longest).toBeLessThan(3_000);
  }, 30_000);

  it('applies nothing when one file fails', async () => {
    write('0001_one', 'create table one (i int);');
    write('0002_bad', 'create table two (i int); select nonsense();');
    await expect(go()).rejects.toMatchObject({ code: '42883' });
    const { rows } = await owner.query(
      "select to_regclass('one') as one, to_regclass('two') as two",
    );
    expect(rows).toEqual([{ one: null, two: null }]);
  });

  it('lets one of several processes apply', async () => {
    write('0001_one', 'create table one (i int); select pg_sleep(0.2);');
    const counts = (await Promise.all([go(), go(), go()])).map(({ length }) => length);
    expect(counts.sort()).toEqual([0, 0, 1]);
  });

  it('refuses a database of a newer version and names it', async () => {
    write('0001_one', 'create table one (i int);');
    write('0002_two', 'create table two (i int);');
    await go('9.9.9');
    rmSync(join(dir, '0002_two'), { recursive: true });
    await expect(go()).rejects.toMatchObject({ code: 'conflict' });
    await expect(go()).rejects.toThrow('9.9.9');
    await expect(assertMigrated(owner, dir)).rejects.toMatchObject({ code: 'conflict' });
  });

  it('runs on what the next version only added to, and says from which file on', async () => {
    const next = (needed: string) =>
      migrate({ url: database.ownerUrl, version: '2.0.0', dir, needed });
    write('0001_one', 'create table one (i int);');
    await go();
    write('0002_two', 'create table two (i int);');
    expect(await next('0001_one')).toEqual(['0002_two']);
    rmSync(join(dir, '0002_two'), { recursive: true });
    expect(await go()).toEqual([]);
    await assertMigrated(owner, dir);
    // Of the version after that, which took something away that this one uses.
    write('0002_two', 'create table two (i int);');
    write('0003_three', 'alter table one drop column i;');
    expect(await next('0002_two')).toEqual(['0003_three']);
    await assertMigrated(owner, dir);
    rmSync(join(dir, '0003_three'), { recursive: true });
    await assertMigrated(owner, dir);
    rmSync(join(dir, '0002_two'), { recursive: true });
    await expect(go()).rejects.toThrow('2.0.0 (0003_three)');
    await expect(assertMigrated(owner, dir)).rejects.toMatchObject({ code: 'conflict' });
  });

  it('reads and extends the table of a version that did not say what a program has to know', async () => {
    write('0001_one', 'create table one (i int);');
    await go();
    await owner.query('alter table twofold_migration drop column needs');
    await assertMigrated(owner, dir);
    write('0002_two', 'create table two (i int);');
    await expect(assertMigrated(owner, dir)).rejects.toThrow('0002_two');
    expect(await go()).toEqual(['0002_two']);
    const { rows } = await owner.query('select name, needs from twofold_migration order by name');
    expect(rows).toEqual([
      { name: '0001_one', needs: null },
      { name: '0002_two', needs: NEEDED },
    ]);
  });

  it('refuses a changed file, and one that sorts before an applied one', async () => {
    write('0002_one', 'create table one (i int);');
    await go();
    write('0001_late', 'select 1;');
    await expect(go()).rejects.toThrow('0001_late');
    rmSync(join(dir, '0001_late'), { recursive: true });
    write('0002_one', 'create table one (i bigint);');
    await expect(go()).rejects.toMatchObject({ code: 'conflict' });
  });

  it('refuses a file that ends its transaction', async () => {
    write('0001_one', 'create table one (i int); commit; begin;');
    await expect(go()).rejects.toThrow('0001_one');
    await owner.query('drop table if exists one');
  });

  it('tells a server that does not migrate what is missing', async () => {
    write('0001_one', 'create table one (i int);');
    await expect(assertMigrated(owner, dir)).rejects.toThrow('0001_one');
    await go();
    const app = createPool({ url: database.appUrl });
    await assertMigrated(app, dir);
    await app.end();
  });
});

describe('schema.prisma', () => {
  const schema = readFileSync(join(import.meta.dirname, '../../prisma/schema.prisma'), 'utf8');
  let fresh: TestDatabase;

  beforeAll(async () => {
    fresh = await startTestDatabase();
  }, 60_000);

  afterAll(() => fresh.stop());

  it('agrees with the migrations', async () => {
    const { empty, sql } = await schemaDiff(fresh.ownerUrl);
    expect(sql).toContain('empty migration');
    expect(empty).toBe(true);
  });

  it('does not agree after a change, so the comparison can fail', async () => {
    const changed = schema.replace(/^model key \{$/mu, 'model key {\n  planted Int?');
    expect(changed).not.toBe(schema);
    const { empty, sql } = await schemaDiff(fresh.ownerUrl, changed);
    expect(empty).toBe(false);
    expect(sql).toContain('"planted"');
  });
});
