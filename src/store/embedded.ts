/**
 * The embedded PostgreSQL 18 of development: made on first use, started on a free loopback port,
 * kept running, and stopped before we end.
 *
 * It runs in its own session: Ctrl-C is ours to turn into an orderly stop. When we are killed it
 * lives on, and the next start finds it by its working folder, stops it and starts anew. When it is
 * killed it is started again on the same port, after which pools reconnect by themselves.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TwofoldError } from '../errors.ts';
import {
  clusterFolder,
  ensureCluster,
  programFailure,
  storedCredentials,
} from './embedded-cluster.ts';
import { programRunner, readyPort, recordedPid, stopOrphans } from './embedded-process.ts';
import type { ProgramRunner } from './embedded-process.ts';

export interface EmbeddedOptions {
  /** Absolute path; the caller holds its lock (`data-folder.ts`) until `stop` has returned. */
  readonly dataDir: string;
  /** Connections at most; 60 unless more are named. */
  readonly connections?: number;
  /** Told in words what happens: made, orphan stopped, died, started again. */
  readonly log?: (message: string) => void;
  /** Whether this host lets root make user namespaces; found out where it is not given. */
  readonly namespaces?: () => boolean;
}

export interface EmbeddedDatabase {
  /** For migrations: `twofold_owner`, who owns every table. */
  readonly ownerUrl: string;
  /** For the server: `twofold_app`, who may do what migrations grant. */
  readonly appUrl: string;
  readonly port: number;
  /** Process id of the server running now. */
  readonly pid: () => number;
  /** Fast shutdown, then harder ones; returns when the process has gone. */
  readonly stop: () => Promise<void>;
}

const START_MS = 60_000;
const CONNECTIONS = 60;
const LOG_LIMIT = 16 * 1024 * 1024;

/** Statements and values stay out of the log: they may carry what nobody else should read. */
const SETTINGS = [
  'listen_addresses=127.0.0.1',
  'unix_socket_directories=',
  'shared_buffers=64MB',
  'fsync=on',
  'full_page_writes=on',
  'synchronous_commit=on',
  'password_encryption=scram-sha-256',
  'log_statement=none',
  'log_min_error_statement=panic',
  'log_error_verbosity=terse',
  'log_checkpoints=off',
];

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
};

const logFile = (dataDir: string): string => join(dataDir, 'db', 'server.log');

const logSize = (dataDir: string): number =>
  statSync(logFile(dataDir), { throwIfNoEntry: false })?.size ?? 0;

interface Place {
  readonly dataDir: string;
  readonly port: number;
  readonly connections: number;
}

const spawnServer = (
  runner: ProgramRunner,
  { dataDir, port, connections }: Place,
): ChildProcess => {
  const flag = logSize(dataDir) > LOG_LIMIT ? 'w' : 'a';
  const log = openSync(logFile(dataDir), flag, 0o600);
  try {
    const own = [`port=${port}`, `max_connections=${connections}`];
    const settings = [...SETTINGS, ...own].flatMap((setting) => ['-c', setting]);
    const cluster = clusterFolder(dataDir);
    return runner.spawn(
      'postgres',
      ['-D', cluster, ...settings],
      ['ignore', log, log],
      join(dataDir, 'db'),
    );
  } finally {
    closeSync(log);
  }
};

const isRunning = (child: ChildProcess): boolean =>
  child.pid !== undefined && child.exitCode === null && child.signalCode === null;

const waitUntilReady = async (
  child: ChildProcess,
  dataDir: string,
  from: number,
): Promise<number> => {
  const until = performance.now() + START_MS;
  while (isRunning(child) && performance.now() < until) {
    const { pid } = child;
    if (pid !== undefined && readyPort(clusterFolder(dataDir), pid) !== undefined) return pid;
    await sleep(10);
  }
  if (isRunning(child)) await end(child);
  const said = readFileSync(logFile(dataDir), 'utf8').slice(from);
  throw programFailure('The embedded database did not start', said);
};

const exited = async (child: ChildProcess, milliseconds: number): Promise<boolean> => {
  const until = performance.now() + milliseconds;
  while (isRunning(child)) {
    if (performance.now() > until) return false;
    await sleep(5);
  }
  return true;
};

const end = async (child: ChildProcess): Promise<void> => {
  for (const [signal, milliseconds] of [
    ['SIGINT', 20_000],
    ['SIGQUIT', 10_000],
    ['SIGKILL', 5000],
  ] as const) {
    if (!isRunning(child)) return;
    child.kill(signal);
    if (await exited(child, milliseconds)) return;
  }
};

/** A server that may be asked to start again on its port, and to end. */
class Server {
  readonly #runner: ProgramRunner;
  readonly #dataDir: string;
  readonly #connections: number;
  readonly #log: (message: string) => void;
  #child: ChildProcess | undefined;
  #stopping = false;
  #restarting: Promise<void> | undefined;
  #pid = 0;
  #port = 0;

  constructor(
    runner: ProgramRunner,
    options: EmbeddedOptions & { log: (message: string) => void },
  ) {
    this.#runner = runner;
    this.#dataDir = options.dataDir;
    this.#connections = Math.max(options.connections ?? 0, CONNECTIONS);
    this.#log = options.log;
  }

  get pid(): number {
    return this.#pid;
  }

  get port(): number {
    return this.#port;
  }

  /** A free port may be taken between our look and the server's bind, so it is looked for again. */
  async startOnFreePort(): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      this.#port = await freePort();
      try {
        await this.start();
        return;
      } catch (error) {
        const taken =
          TwofoldError.is(error) && /could not bind|Address already in use/u.test(error.message);
        if (!taken || attempt === 5) throw error;
      }
    }
  }

  async start(): Promise<void> {
    const cluster = clusterFolder(this.#dataDir);
    if (await stopOrphans(cluster, recordedPid(cluster))) {
      this.#log('stopped the database that an interrupted run left behind');
    }
    // No process works in the folder, so a pid file names a dead or a foreign process.
    rmSync(join(cluster, 'postmaster.pid'), { force: true });
    const from = logSize(this.#dataDir);
    const child = spawnServer(this.#runner, {
      dataDir: this.#dataDir,
      port: this.#port,
      connections: this.#connections,
    });
    this.#child = child;
    child.once('error', () => undefined);
    this.#pid = await waitUntilReady(child, this.#dataDir, from > LOG_LIMIT ? 0 : from);
    child.once('exit', () => this.#died());
    if (!isRunning(child)) this.#died();
  }

  #died(): void {
    if (this.#stopping || this.#restarting !== undefined) return;
    this.#log('the database ended unexpectedly and is started again');
    this.#restarting = this.#restart().finally(() => {
      this.#restarting = undefined;
    });
  }

  async #restart(): Promise<void> {
    for (let pause = 100; !this.#stopping; pause = Math.min(pause * 2, 5000)) {
      try {
        await this.start();
        return;
      } catch (error) {
        this.#log(error instanceof Error ? error.message : 'the database did not start');
        await sleep(pause);
      }
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#child !== undefined) await end(this.#child);
    await this.#restarting;
    if (this.#child !== undefined) await end(this.#child);
  }
}

const url = (role: string, password: string, port: number): string =>
  `postgresql://${role}:${password}@127.0.0.1:${port}/twofold`;

/**
 * Makes the database if need be, starts it, and returns once it takes connections.
 *
 * @throws TwofoldError `database_unavailable` or `storage_full`, with the server's last words.
 */
export const startEmbedded = async (options: EmbeddedOptions): Promise<EmbeddedDatabase> => {
  const { dataDir, log = () => undefined, namespaces } = options;
  const runner = programRunner(dataDir, namespaces);
  if (runner.note !== undefined) log(runner.note);
  const credentials = await ensureCluster(runner, dataDir);
  const server = new Server(runner, { ...options, log });
  await server.startOnFreePort();
  const { port } = server;
  return {
    ownerUrl: url('twofold_owner', credentials.owner, port),
    appUrl: url('twofold_app', credentials.app, port),
    port,
    pid: () => server.pid,
    stop: () => server.stop(),
  };
};

/** Whether an embedded database has been made in this folder, running or not. */
export const hasEmbedded = (dataDir: string): boolean => storedCredentials(dataDir) !== null;

/** The embedded database that another process of this data folder runs; null when none does. */
export const findEmbedded = (
  dataDir: string,
): Pick<EmbeddedDatabase, 'ownerUrl' | 'appUrl'> | null => {
  const credentials = storedCredentials(dataDir);
  const pid = recordedPid(clusterFolder(dataDir));
  const port = pid === undefined ? undefined : readyPort(clusterFolder(dataDir), pid);
  if (credentials === null || port === undefined) return null;
  return {
    ownerUrl: url('twofold_owner', credentials.owner, port),
    appUrl: url('twofold_app', credentials.app, port),
  };
};
