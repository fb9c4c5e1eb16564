import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { PrismaPg } from '@prisma/adapter-pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import { OutcomeUnknown } from '../../src/outcome.ts';
import { StatementDeadline, sqlState } from '../../src/store/outcome.ts';
import { createPool } from '../../src/store/pool.ts';
import type { GuardedClient, GuardedPool } from '../../src/store/pool.ts';
import { commitStatement, read, transaction } from '../../src/store/transaction.ts';
import { startTestDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';
import { eventually } from './eventually.ts';
import { startRelay } from './relay.ts';
import type { Relay } from './relay.ts';
import { stopwatch } from '../waited.ts';

let database: TestDatabase;
let owner: GuardedPool;
let relay: Relay;
let pool: GuardedPool;

const rows = async (): Promise<string[]> =>
  (await owner.query<{ v: string }>('select v from probe order by v')).rows.map(({ v }) => v);

const failure = async (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

beforeAll(async () => {
  database = await startTestDatabase();
  owner = createPool({ url: database.ownerUrl });
  await owner.query('create table probe (v text primary key)');
}, 60_000);

afterAll(async () => {
  await owner.end();
  await database.stop();
});

beforeEach(async () => {
  await owner.query('truncate probe');
  relay = await startRelay(database.port);
  pool = createPool({ url: relay.url(database.ownerUrl), max: 3, statementDeadlineMs: 300 });
});

afterEach(async () => {
  await pool.end();
  await relay.close();
});

const insert = (v: string) => ({ text: 'insert into probe values ($1)', values: [v] });

describe('transaction', () => {
  it('commits what it acknowledges and reuses the connection', async () => {
    for (const v of ['a', 'b', 'c']) {
      const { text, values } = insert(v);
      const count = await transaction(
        pool,
        async (sql) => (await sql.query(text, values)).rowCount,
      );
      expect(count).toBe(1);
    }
    expect(await rows()).toEqual(['a', 'b', 'c']);
    expect(relay.accepted()).toBe(1);
  });

  it('rolls back what its function threw, and destroys the connection', async () => {
    const error = await failure(
      transaction(pool, async (sql) => {
        await sql.query("insert into probe values ('x')");
        throw new TwofoldError('conflict');
      }),
    );
    expect(TwofoldError.is(error, 'conflict')).toBe(true);
    expect(await rows()).toEqual([]);
    expect(pool.totalCount).toBe(0);
  });

  it('hands a refused statement to the caller with its SQLSTATE', async () => {
    await owner.query("insert into probe values ('x')");
    const error = await failure(
      transaction(pool, async (sql) => sql.query("insert into probe values ('x')")),
    );
    expect(sqlState(error)).toBe('23505');
  });

  it('never reports success when a failed statement was swallowed', async () => {
    await owner.query("insert into probe values ('x')");
    const result = await failure(
      transaction(pool, async (sql) => {
        await sql.query("insert into probe values ('y')");
        await failure(sql.query("insert into probe values ('x')"));
      }),
    );
    expect(result).toBeInstanceOf(Error);
    expect(await rows()).toEqual(['x']);
  });

  it('gives its function no statement after the end', async () => {
    let late: (() => Promise<unknown>) | undefined;
    await transaction(pool, async (sql) => {
      late = () => sql.query("insert into probe values ('late')");
      return sql.query('select 1');
    });
    expect(await failure(late?.() ?? Promise.resolve())).toBeInstanceOf(Error);
    expect(await rows()).toEqual([]);
  });

  it('repeats what was cut before COMMIT, and applies it once', async () => {
    relay.cutAfter(/insert into probe/u);
    let runs = 0;
    await transaction(pool, async (sql) => {
      runs += 1;
      return sql.query("insert into probe values ('once')");
    });
    expect(runs).toBe(2);
    expect(await rows()).toEqual(['once']);
  });

  it('calls a lost COMMIT unknown and does not repeat it', async () => {
    relay.cutAfter(/COMMIT/u);
    let runs = 0;
    const error = await failure(
      transaction(pool, async (sql) => {
        runs += 1;
        return sql.query("insert into probe values ('maybe')");
      }),
    );
    expect(error).toBeInstanceOf(OutcomeUnknown);
    expect(runs).toBe(1);
    await owner.query('select pg_sleep(0.2)');
    expect(await rows()).toEqual(['maybe']);
  });

  it('calls a lost committing statement unknown', async () => {
    relay.cutAfter(/insert into probe/u);
    const { text, values } = insert('maybe');
    expect(await failure(commitStatement(pool, text, values))).toBeInstanceOf(OutcomeUnknown);
  });

  it('ends a statement by the deadline, destroys the socket and sends no cancel', async () => {
    await pool.query('select 1');
    relay.muteAnswers();
    const elapsed = stopwatch();
    const error = await failure(commitStatement(pool, 'select pg_sleep(0)'));
    expect(elapsed()).toBeLessThan(1500);
    expect(error).toBeInstanceOf(OutcomeUnknown);
    expect((error as Error).cause).toBeInstanceOf(StatementDeadline);
    expect(pool.totalCount).toBe(0);
    // A cancel request is a connection of its own that begins with this code.
    expect(relay.sent()).not.toContain('\x04\xd2\x16\x2e');
    relay.unmute();
    expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  });

  it('is database_unavailable when nothing listens, within the deadline', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    const lost = createPool({ url: `postgresql://a:b@127.0.0.1:${port}/c` });
    const elapsed = stopwatch();
    const error = await failure(transaction(lost, async () => 1, { deadlineMs: 400 }));
    expect(TwofoldError.is(error, 'database_unavailable')).toBe(true);
    expect(error).not.toBeInstanceOf(OutcomeUnknown);
    expect(elapsed()).toBeLessThan(1000);
    await lost.end();
  });

  it('knows a cancelled synchronous wait in any language', async () => {
    const client = await pool.connect();
    const guarded = client as unknown as GuardedClient;
    expect(guarded.reusable).toBe(true);
    client.emit('notice', { message: "annulation de l'attente", routine: 'SyncRepWaitForLSN' });
    expect(guarded.reusable).toBe(false);
    client.release();
  });

  it('commits synchronously whatever database and role say', async () => {
    const set = (value: string) =>
      owner.query(
        `do $$ begin execute format('alter database %I ${value}', current_database()); end $$`,
      );
    await set('set synchronous_commit = off');
    const fresh = createPool({ url: database.ownerUrl });
    try {
      const { rows: shown } = await fresh.query('show synchronous_commit');
      expect(shown).toEqual([{ synchronous_commit: 'on' }]);
    } finally {
      await set('reset synchronous_commit');
      await fresh.end();
    }
  });

  it('turns the notice of a cancelled synchronous wait into an unknown outcome', async () => {
    const error = await failure(
      transaction(pool, async (sql) => {
        await sql.query("insert into probe values ('n')");
        return sql.query(
          `do $$ begin raise notice 'canceling wait for synchronous replication due to user request'; end $$`,
        );
      }),
    );
    expect(error).toBeInstanceOf(OutcomeUnknown);
    expect(pool.totalCount).toBe(0);
  });

  it('holds commits back after several unknown outcomes, one probe at a time', async () => {
    await pool.query('select 1');
    relay.muteAnswers();
    for (let n = 0; n < 5; n += 1) {
      // New connections are muted too, so an attempt either has no connection or no answer.
      relay.unmute();
      const client = await pool.connect();
      client.release();
      relay.muteAnswers();
      expect(await failure(commitStatement(pool, 'select 1'))).toBeInstanceOf(OutcomeUnknown);
    }
    expect(pool.circuit.open).toBe(true);
    relay.unmute();
    await pool.query('select 1');
    relay.muteAnswers();
    const probes = [1, 2, 3].map(() =>
      failure(commitStatement(pool, 'select 1', [], { deadlineMs: 100 })),
    );
    // One of them asks what became of those before, and is not answered; none sends a commit.
    for (const error of await Promise.all(probes))
      expect(error).toMatchObject({ code: 'database_unavailable' });
    relay.unmute();
    await commitStatement(pool, 'select 1');
    expect(pool.circuit.open).toBe(false);
  });

  it('repeats a read after a lost connection', async () => {
    await pool.query('select 1');
    relay.cutAfter(/probe/u);
    expect(
      await read(
        async () => (await pool.query<{ n: number }>('select count(*)::int as n from probe')).rows,
      ),
    ).toEqual([{ n: 0 }]);
  });
});

describe('pool', () => {
  it('destroys a connection that comes back inside a transaction', async () => {
    const client = await pool.connect();
    await client.query('begin');
    await client.query("insert into probe values ('poison')");
    client.release();
    expect(pool.totalCount).toBe(0);
    await commitStatement(pool, "insert into probe values ('clean')");
    expect(await rows()).toEqual(['clean']);
  });

  it('destroys a connection whose query still runs', async () => {
    const client = await pool.connect();
    const running = failure(client.query('select pg_sleep(0.1)'));
    client.release();
    expect(await running).toBeInstanceOf(Error);
    expect(pool.totalCount).toBe(0);
  });

  it("keeps a timed-out transaction of Prisma's adapter out of the pool", async () => {
    const adapter = await new PrismaPg(pool).connect();
    const tx = await adapter.startTransaction();
    const query = (sql: string) => ({ sql, args: [], argTypes: [] });
    await tx.executeRaw(query("insert into probe values ('lost')"));
    expect(await failure(tx.queryRaw(query('select pg_sleep(1)')))).toBeDefined();
    await failure(tx.rollback());
    await adapter.executeRaw(query("insert into probe values ('kept')"));
    expect(await rows()).toEqual(['kept']);
    await adapter.dispose();
  });

  it('survives the loss of idle connections', async () => {
    const lost: Error[] = [];
    const idle = createPool({
      url: database.ownerUrl,
      onConnectionLost: (error) => lost.push(error),
    });
    const { rows: found } = await idle.query<{ pid: number }>('select pg_backend_pid() as pid');
    await owner.query('select pg_terminate_backend($1)', [found[0]?.pid]);
    await eventually(() => Promise.resolve(lost.length > 0));
    expect(lost).toHaveLength(1);
    expect((await idle.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
    await idle.end();
  });

  it('has closed its connections once it has ended', async () => {
    const own = createPool({ url: database.ownerUrl });
    let closed = 0;
    own.on('connect', (client) => client.once('end', () => (closed += 1)));
    const clients = await Promise.all([own.connect(), own.connect(), own.connect()]);
    for (const client of clients) client.release();
    await own.end();
    expect(closed).toBe(3);
  });

  it('closes although the server is silent', async () => {
    const own = createPool({ url: relay.url(database.ownerUrl) });
    const client = (await own.connect()) as unknown as GuardedClient & { release(): void };
    expect(client.reusable).toBe(true);
    client.release();
    relay.muteAnswers();
    const elapsed = stopwatch();
    await own.end();
    expect(elapsed()).toBeLessThan(2000);
  });
});
