/**
 * The design's table of outcomes, row by row: the error as PostgreSQL or the network really makes it, what
 * the store takes it for, and whether the row that was being written is there.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type pg from 'pg';

import { TwofoldError } from '../../src/errors.ts';
import { OutcomeUnknown } from '../../src/outcome.ts';
import { classify, sqlState, storeError } from '../../src/store/outcome.ts';
import type { Phase } from '../../src/store/outcome.ts';
import { createPool } from '../../src/store/pool.ts';
import type { GuardedClient, GuardedPool, PoolOptions } from '../../src/store/pool.ts';
import { eventually } from './eventually.ts';
import { withClient } from './owner.ts';
import { hasPostgres15, startPostgres15 } from './postgres-15.ts';
import { rejection } from './samples.ts';

const onPostgres15 = hasPostgres15 ? describe : describe.skip;

onPostgres15('the table of outcomes', () => {
  let folder: string;
  let server: Awaited<ReturnType<typeof startPostgres15>>;
  let pools: GuardedPool[] = [];
  let listeners: Server[] = [];
  let sockets: Socket[] = [];
  let taken: pg.PoolClient[] = [];

  const superUrl = () => {
    const url = new URL(server.ownerUrl);
    url.username = 'postgres';
    return url.toString();
  };
  const as = <T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> =>
    withClient(url, (client) => {
      // What ends a neighbour's session may end this one too.
      client.on('error', () => undefined);
      return use(client);
    });
  const administer = (...statements: string[]) =>
    as(superUrl(), async (admin) => {
      for (const statement of statements) await admin.query(statement);
    });
  const synchronous = async (names: string) => {
    await administer(`alter system set synchronous_standby_names = '${names}'`);
    await administer('select pg_reload_conf()');
    const shown = `select current_setting('synchronous_standby_names') as now`;
    await eventually(() =>
      as(superUrl(), async (admin) => {
        const { rows } = await admin.query<{ now: string }>(shown);
        return rows[0]?.now === names;
      }),
    );
  };
  const isThere = async (v: string): Promise<boolean> => {
    let found: boolean | undefined;
    // The server may be starting again.
    await eventually(async () => {
      found = await as(server.ownerUrl, async (owner) => {
        const { rowCount } = await owner.query('select 1 from probe where v = $1', [v]);
        return rowCount === 1;
      }).catch(() => undefined);
      return found !== undefined;
    });
    return found === true;
  };
  const poolTo = (url: string, more: Partial<PoolOptions> = {}): GuardedPool => {
    const pool = createPool({ url, max: 4, ...more });
    pools.push(pool);
    return pool;
  };
  /** Given back after the test. */
  const clientOf = async (pool = poolTo(server.ownerUrl)) => {
    const client = await pool.connect();
    taken.push(client);
    return client as unknown as GuardedClient & pg.PoolClient;
  };
  const streamOf = (client: GuardedClient): Socket =>
    (client as unknown as { readonly connection: { readonly stream: Socket } }).connection.stream;
  const pidOf = async (client: pg.ClientBase): Promise<number> => {
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    return rows[0]?.pid ?? 0;
  };
  const waits = (pid: number, event: string) =>
    eventually(() =>
      as(superUrl(), async (admin) => {
        const sql = 'select 1 from pg_stat_activity where pid = $1 and wait_event = $2';
        return (await admin.query(sql, [pid, event])).rowCount === 1;
      }),
    );

  /** A listener of the test's own; `url` leads there. */
  async function listen(onConnection: (socket: Socket) => void): Promise<string> {
    const listener = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => undefined);
      onConnection(socket);
    });
    listeners.push(listener);
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const url = new URL(server.ownerUrl);
    url.port = String((listener.address() as AddressInfo).port);
    return url.toString();
  }

  /** Passes everything to the server; the sockets of clients are given out. */
  async function relayed(): Promise<{ readonly url: string; readonly clients: Socket[] }> {
    const clients: Socket[] = [];
    const url = await listen((socket) => {
      clients.push(socket);
      const upstream = connect(server.port, '127.0.0.1');
      sockets.push(upstream);
      upstream.on('error', () => undefined);
      socket.pipe(upstream);
      upstream.pipe(socket);
      socket.on('close', () => upstream.destroy());
    });
    return { url, clients };
  }

  const notApplied = (error: unknown, phase: Phase) => {
    expect(classify(error, phase)).toBe('not_applied');
    const told = storeError(error, classify(error, phase));
    expect(TwofoldError.is(told, 'database_unavailable')).toBe(true);
    expect(told).not.toBeInstanceOf(OutcomeUnknown);
  };
  const unknown = (error: unknown) => {
    expect(classify(error, 'commit')).toBe('unknown');
    expect(storeError(error, 'unknown')).toBeInstanceOf(OutcomeUnknown);
  };
  const codeOf = (error: unknown): unknown => Reflect.get(Object(error) as object, 'code');
  const insert = (client: pg.ClientBase, v: string) =>
    client.query('insert into probe values ($1)', [v]);

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'twofold-outcomes-'));
    server = await startPostgres15(folder);
    await as(server.ownerUrl, async (owner) => {
      await owner.query('create table probe (v text primary key, n integer default 0)');
      await owner.query(`insert into probe values ('one'), ('two')`);
    });
  }, 60_000);
  afterEach(async () => {
    for (const client of taken) client.release(true);
    taken = [];
    for (const pool of pools) await pool.end();
    for (const socket of sockets) socket.destroy();
    for (const listener of listeners) listener.close();
    pools = [];
    sockets = [];
    listeners = [];
  });
  afterAll(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('not applied: a refused connect', async () => {
    const url = new URL(await listen(() => undefined));
    listeners.pop()?.close();
    const error = await rejection(poolTo(url.toString()).connect());
    expect(codeOf(error)).toBe('ECONNREFUSED');
    notApplied(error, 'connect');
  });

  it('not applied: a connect that nobody answers in time', async () => {
    const url = await listen(() => undefined);
    const error = await rejection(poolTo(url, { connectDeadlineMs: 200 }).connect());
    expect(String(error)).toMatch(/timeout/u);
    notApplied(error, 'connect');
  });

  it('not applied: 53300, no connection is left', async () => {
    await administer('alter role twofold_owner connection limit 1');
    try {
      await clientOf();
      const error = await rejection(poolTo(server.ownerUrl).connect());
      expect(sqlState(error)).toBe('53300');
      notApplied(error, 'connect');
    } finally {
      await administer('alter role twofold_owner connection limit -1');
    }
  });

  it('not applied: 40001, two that write the same row', async () => {
    const [client, other] = [await clientOf(), await clientOf()];
    await client.query('begin isolation level repeatable read');
    await client.query('select * from probe');
    await other.query(`update probe set n = n + 1 where v = 'one'`);
    const error = await rejection(client.query(`update probe set n = n + 1 where v = 'one'`));
    expect(sqlState(error)).toBe('40001');
    notApplied(error, 'open');
  });

  it('not applied: 40P01, two that wait for each other', async () => {
    const [client, other] = [await clientOf(), await clientOf()];
    const update = (of: pg.ClientBase, v: string) =>
      of.query('update probe set n = n + 1 where v = $1', [v]);
    await Promise.all([client, other].map((each) => each.query('begin')));
    await update(client, 'one');
    await update(other, 'two');
    const both = await Promise.allSettled([update(client, 'two'), update(other, 'one')]);
    const failed = both.filter((each) => each.status === 'rejected');
    expect(failed.map(({ reason }) => sqlState(reason))).toEqual(['40P01']);
    notApplied(failed[0]?.reason, 'open');
  });

  it('not applied: 55P03, a lock that does not come; 57014 before the commit', async () => {
    const [client, other] = [await clientOf(), await clientOf()];
    await other.query('begin');
    await other.query('lock table probe');
    await client.query(`set lock_timeout = '100ms'`);
    const late = await rejection(insert(client, 'late'));
    expect(sqlState(late)).toBe('55P03');
    notApplied(late, 'commit');
    await client.query('begin');
    await client.query(`set lock_timeout = 0; set statement_timeout = '100ms'`);
    const ended = await rejection(insert(client, 'ended'));
    expect(sqlState(ended)).toBe('57014');
    notApplied(ended, 'open');
    await other.query('rollback');
    expect([await isThere('late'), await isThere('ended')]).toEqual([false, false]);
  });

  it('unknown: 57P01 and 57P02, the session or the server is ended', async () => {
    const client = await clientOf();
    const pid = await pidOf(client);
    const holder = await clientOf();
    await holder.query('begin');
    await holder.query('lock table probe');
    const failed = rejection(insert(client, 'terminated'));
    await waits(pid, 'relation');
    await administer(`select pg_terminate_backend(${String(pid)})`);
    const error = await failed;
    expect(sqlState(error)).toBe('57P01');
    unknown(error);

    const notices: (string | undefined)[] = [];
    const bystander = await clientOf();
    bystander.on('notice', ({ code }) => notices.push(code));
    const waiting = await pidOf(bystander);
    const lost = rejection(insert(bystander, 'crashed'));
    await waits(waiting, 'relation');
    process.kill(await pidOf(holder), 'SIGKILL');
    const crash = await lost;
    // PostgreSQL gives the code with a warning, and then closes: what pg throws has none.
    expect(notices).toEqual(['57P02']);
    expect([codeOf(crash), String(crash)]).toEqual([
      undefined,
      expect.stringMatching(/Connection terminated unexpectedly/u),
    ]);
    unknown(crash);
    expect([await isThere('terminated'), await isThere('crashed')]).toEqual([false, false]);
  }, 30_000);

  it('unknown: 08P01, what was sent arrived broken', async () => {
    const client = await clientOf();
    await pidOf(client);
    streamOf(client).write(Buffer.from('!\0\0\0\x04', 'latin1'));
    const error = await rejection(insert(client, 'broken'));
    expect(sqlState(error)).toBe('08P01');
    unknown(error);
    expect(await isThere('broken')).toBe(false);
  });

  it('unknown: ECONNRESET, and the row is there', async () => {
    const { url, clients } = await relayed();
    const client = await clientOf(poolTo(url));
    const pid = await pidOf(client);
    await synchronous('nobody');
    try {
      const failed = rejection(insert(client, 'reset'));
      await waits(pid, 'SyncRep');
      clients[0]?.resetAndDestroy();
      const error = await failed;
      expect(codeOf(error)).toBe('ECONNRESET');
      unknown(error);
    } finally {
      await synchronous('');
    }
    await eventually(() => isThere('reset'));
  }, 30_000);

  it('unknown: EPIPE, a write to who has gone', async () => {
    const { url, clients } = await relayed();
    const client = await clientOf(poolTo(url));
    await pidOf(client);
    // All of it at once: it does not see the end of the stream before it writes. The first write is answered
    // with a reset, the second finds it.
    clients[0]?.destroy();
    streamOf(client).write(Buffer.from('S\0\0\0\x04', 'latin1'));
    const error = await rejection(insert(client, 'pipe'));
    expect(codeOf(error)).toBe('EPIPE');
    unknown(error);
    expect(await isThere('pipe')).toBe(false);
  });

  it('unknown: the deadline, and the notice of a wait that was cancelled; both rows are there', async () => {
    const late = await clientOf(poolTo(server.ownerUrl, { statementDeadlineMs: 500 }));
    const cancelled = await clientOf();
    const pid = await pidOf(cancelled);
    await synchronous('nobody');
    try {
      const deadline = await rejection(insert(late, 'deadline'));
      expect(deadline).toMatchObject({ name: 'StatementDeadline' });
      unknown(deadline);
      const failed = rejection(insert(cancelled, 'cancelled'));
      await waits(pid, 'SyncRep');
      await administer(`select pg_cancel_backend(${String(pid)})`);
      // The server reports success.
      const notice = await failed;
      expect(notice).toMatchObject({ name: 'SynchronousWaitCancelled' });
      unknown(notice);
      expect(await isThere('cancelled')).toBe(true);
    } finally {
      await synchronous('');
    }
    await eventually(() => isThere('deadline'));
  }, 30_000);

  it('not applied: 57P03, a server that is going down', async () => {
    const client = await clientOf();
    await pidOf(client);
    // Smart: who is there may finish.
    process.kill(server.pid(), 'SIGTERM');
    let error: unknown;
    await eventually(async () => {
      const pool = poolTo(server.ownerUrl);
      error = await pool.connect().then(
        (given) => given.release(),
        (refused: unknown) => refused,
      );
      return error !== undefined;
    });
    expect(sqlState(error)).toBe('57P03');
    notApplied(error, 'connect');
  });

  it('not applied: 25006, a primary that was made a standby', async () => {
    await server.demote();
    const client = await clientOf();
    const error = await rejection(insert(client, 'standby'));
    expect(sqlState(error)).toBe('25006');
    notApplied(error, 'commit');
    expect(await isThere('standby')).toBe(false);
  }, 30_000);
});
