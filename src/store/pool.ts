/**
 * The guarded connection pool, under both raw SQL and Prisma's adapter.
 *
 * What it adds to pg's pool, each for a fault that was seen:
 * - a statement has a client-side deadline that destroys the socket; never a cancel request, which
 *   would turn a commit that waits for a standby into a false success;
 * - a connection comes back only when it is idle outside a transaction; adapter-pg returns a
 *   timed-out transaction open, and the next write would be acknowledged and lost;
 * - the notice of a cancelled synchronous wait turns the statement's success into an error;
 * - every client and the pool have error handlers, or the first fail-over would end the process.
 */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { CommitCircuit } from './circuit.ts';
import { StatementDeadline, SynchronousWaitCancelled } from './outcome.ts';
import type { Passwords } from './password.ts';

/** TLS to the database; see the configuration's `database.tls`. */
export type DatabaseTls = 'disable' | 'require' | 'verify-ca' | 'verify-full';

export interface PoolOptions {
  /** `postgresql://user:password@host:port/database`, without `sslmode`. */
  readonly url: string;
  /** Asked at each new connection, instead of a password in the URL. */
  readonly passwords?: Passwords | undefined;
  readonly tls?: DatabaseTls | undefined;
  /** PEM file of authorities; the host's own where absent. */
  readonly caFile?: string | undefined;
  /** Connections at most; 10. */
  readonly max?: number | undefined;
  /** Longest wait for a statement in ms; 3000. */
  readonly statementDeadlineMs?: number | undefined;
  /** Longest wait for a connection in ms; 1500. */
  readonly connectDeadlineMs?: number | undefined;
  /** Told about connections lost while idle; never sees a statement or a value. */
  readonly onConnectionLost?: ((error: Error) => void) | undefined;
}

/** Where the server waits for its standbys; its words alone would be known in English only. */
const SYNCHRONOUS_WAIT = 'SyncRepWaitForLSN';
const SYNCHRONOUS_WAIT_CANCELLED = /^cancell?ing (?:the )?wait for synchronous replication/u;
const CLOSING_MS = 500;

type Callback = (error: unknown, result?: unknown) => void;
type Send = (...args: unknown[]) => unknown;

/** What pg's pool hands to each client that it makes. */
interface GuardedConfig extends pg.ClientConfig {
  readonly passwords?: Passwords | undefined;
}

/** A pg client whose statements end by their deadline, one way or the other. */
export class GuardedClient extends pg.Client {
  /** Deadline of the statements to come, in ms; the pool sets it back when the client is taken. */
  statementDeadlineMs = 3000;
  #pending = 0;
  #fault: Error | undefined;

  constructor(config?: string | GuardedConfig) {
    super(config);
    const passwords = typeof config === 'object' ? config.passwords : undefined;
    if (passwords !== undefined) this.#askFor(passwords);
    this.on('error', (error) => {
      this.#fault ??= error;
    });
    this.on('notice', ({ message, routine }) => {
      if (routine === SYNCHRONOUS_WAIT || SYNCHRONOUS_WAIT_CANCELLED.test(message ?? '')) {
        this.#fault ??= new SynchronousWaitCancelled(message);
      }
    });
    const send = this.query.bind(this) as Send;
    this.query = ((...args: unknown[]) =>
      this.#guarded(send, args)) as unknown as pg.Client['query'];
    const close = this.end.bind(this) as Send;
    this.end = ((...args: unknown[]) => this.#closing(close, args)) as unknown as pg.Client['end'];
  }

  /** Whether the next user may have this connection: idle, outside a transaction, without a fault. */
  get reusable(): boolean {
    return this.#fault === undefined && this.#pending === 0 && this.getTransactionStatus() === 'I';
  }

  /** Closes the socket at once, without a word to the server. */
  destroy(reason: Error): void {
    this.#fault ??= reason;
    const { connection } = this as unknown as { readonly connection: { readonly stream: Socket } };
    connection.stream.destroy(reason);
  }

  /** Its password is asked for when the server asks, and what became of it is told. */
  #askFor(passwords: Passwords): void {
    let offered: string | undefined;
    // pg hides this member from logs, and takes a function in its place.
    Reflect.set(this, 'password', async () => (offered = await passwords.offer()));
    const connect = this.connect.bind(this) as (callback: Callback) => void;
    this.connect = ((callback: Callback) => {
      connect((error, client) => {
        if (offered !== undefined) passwords.settle(offered, error);
        callback(error, client);
      });
    }) as unknown as pg.Client['connect'];
  }

  #guarded(send: Send, args: unknown[]): unknown {
    const settle = this.#begin();
    const at = args.findIndex((argument) => typeof argument === 'function');
    if (at >= 0) {
      const callback = args[at] as Callback;
      args[at] = (error: unknown, result: unknown) => {
        const fault = settle(error);
        if (fault === undefined || fault === null) callback(undefined, result);
        else callback(fault);
      };
      return send(...args);
    }
    return Promise.resolve(send(...args)).then(
      (result) => {
        const fault = settle(undefined);
        if (fault instanceof Error) throw fault;
        return result;
      },
      (error: unknown) => {
        throw settle(error);
      },
    );
  }

  #begin(): (error: unknown) => unknown {
    this.#pending += 1;
    const milliseconds = this.statementDeadlineMs;
    const timer = setTimeout(() => this.destroy(new StatementDeadline(milliseconds)), milliseconds);
    return (error) => {
      clearTimeout(timer);
      this.#pending -= 1;
      return error ?? this.#fault;
    };
  }

  /** A frozen server never closes its side; the pool must not wait for it. */
  #closing(close: Send, args: unknown[]): unknown {
    const timer = setTimeout(() => this.destroy(new Error('closing took too long')), CLOSING_MS);
    this.once('end', () => clearTimeout(timer));
    return close(...args);
  }
}

type PoolCallback = (
  error: Error | undefined,
  client: pg.PoolClient | undefined,
  done: unknown,
) => void;
type Connect = (callback: PoolCallback) => void;

/** pg's pool over guarded clients; hand it to `new PrismaPg(pool)` as it is. */
export class GuardedPool extends pg.Pool {
  /** Shared by everything that commits through this pool. */
  readonly circuit = new CommitCircuit();
  readonly statementDeadlineMs: number;
  readonly #open = new Set<pg.PoolClient>();

  constructor(
    config: pg.PoolConfig & Pick<GuardedConfig, 'passwords'>,
    statementDeadlineMs: number,
  ) {
    super({ ...config, Client: GuardedClient });
    this.statementDeadlineMs = statementDeadlineMs;
    this.on('connect', (client) => {
      this.#open.add(client);
      client.once('end', () => this.#open.delete(client));
    });
    const end: () => Promise<void> = this.end.bind(this);
    this.end = () => this.#end(end);
    const connect = this.connect.bind(this) as Connect;
    this.connect = ((callback?: PoolCallback) =>
      callback === undefined
        ? this.#connectPromise(connect)
        : this.#connectCallback(connect, callback)) as unknown as pg.Pool['connect'];
  }

  /** Also waits until the connections are closed: a server stopped meanwhile would complain of them. */
  async #end(end: () => Promise<void>): Promise<void> {
    await end();
    const closed = [...this.#open].map((client) => new Promise((done) => client.once('end', done)));
    await Promise.race([Promise.all(closed), sleep(2 * CLOSING_MS, undefined, { ref: false })]);
  }

  #connectPromise(connect: Connect): Promise<pg.PoolClient> {
    return new Promise((resolve, reject) => {
      this.#connectCallback(connect, (error, client) => {
        if (client === undefined) reject(error ?? new Error('no connection'));
        else resolve(client);
      });
    });
  }

  #connectCallback(connect: Connect, callback: PoolCallback): void {
    connect((error, client, done) => {
      if (client === undefined) {
        callback(error, undefined, done);
        return;
      }
      const guarded = client as unknown as GuardedClient;
      guarded.statementDeadlineMs = this.statementDeadlineMs;
      const release = client.release.bind(client);
      client.release = (reason) => {
        if (reason === undefined || reason === false || (reason as unknown) === null) {
          if (guarded.reusable) {
            release();
            return;
          }
        }
        const cause = reason instanceof Error ? reason : new Error('connection not reusable');
        guarded.destroy(cause);
        release(cause);
      };
      callback(undefined, client, (reason?: Error | boolean) => client.release(reason));
    });
  }
}

const sslOf = (tls: DatabaseTls, caFile: string | undefined): pg.PoolConfig['ssl'] => {
  const ca = caFile === undefined ? {} : { ca: readFileSync(caFile, 'utf8') };
  switch (tls) {
    case 'disable':
      return false;
    case 'require':
      return { rejectUnauthorized: false };
    case 'verify-ca':
      return { ...ca, checkServerIdentity: () => undefined };
    case 'verify-full':
      return ca;
  }
};

/**
 * Settings of every session, which stand above those of database and role: what we abandon ends at
 * the server too, and a commit is durable, on its standbys as well, before it is acknowledged.
 */
const SESSION_OPTIONS = [
  '-c client_connection_check_interval=2s',
  '-c tcp_user_timeout=6s',
  '-c synchronous_commit=on',
].join(' ');

/**
 * A pool to the database at `url`; connects on first use. The caller ends it.
 *
 * `pool.query` is for reads outside a transaction; whatever acknowledges goes through
 * `transaction` or `commitStatement` (`store/transaction.ts`).
 */
export const createPool = (options: PoolOptions): GuardedPool => {
  const statementDeadlineMs = options.statementDeadlineMs ?? 3000;
  const { passwords } = options;
  const pool = new GuardedPool(
    {
      ...(passwords === undefined ? {} : { passwords }),
      connectionString: options.url,
      ssl: sslOf(options.tls ?? 'disable', options.caFile) ?? false,
      max: options.max ?? 10,
      connectionTimeoutMillis: options.connectDeadlineMs ?? 1500,
      idleTimeoutMillis: 30_000,
      keepAlive: true,
      keepAliveInitialDelayMillis: 2000,
      statement_timeout: statementDeadlineMs + 2000,
      lock_timeout: 2000,
      idle_in_transaction_session_timeout: 5000,
      application_name: 'twofold',
      options: SESSION_OPTIONS,
    },
    statementDeadlineMs,
  );
  pool.on('error', (error) => options.onConnectionLost?.(error));
  return pool;
};
