/**
 * The data folder: made private, and locked by one process for as long as it lives.
 *
 * The lock is flock(2) on an open file of ours. flock belongs to the open file, not to a process, so
 * `flock -n 3` of util-linux takes it on a descriptor that it inherits, and it stays ours when that
 * helper has ended. The kernel drops it with our last descriptor, kill -9 included, so there is no
 * stale lock; it holds between containers that share the folder, too. Of our children only workers
 * inherit the descriptor: the folder is locked until the last of them has ended, whoever ended first.
 * Where the `flock` program is missing, an abstract unix socket named after the folder's
 * device and inode stands in; that holds within one network namespace only.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  realpathSync,
  statSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { TwofoldError } from './errors.ts';

/** A data folder that is ours until `release`. */
export interface DataFolder {
  /** Real, absolute path. */
  readonly path: string;
  /** For workers to inherit; null where a socket stands in, which cannot be. */
  readonly descriptor: number | null;
  release(): void;
}

const HELD = 75;
/** How long the workers of a supervisor that was killed are waited for: they stop by themselves. */
const ORPHANS_S = 30;
export const LOCK_FILE = 'lock';
/** Set on folders that everyone shares. */
const STICKY = 0o1000;

const inUse = (path: string, holder: string): TwofoldError =>
  new TwofoldError(
    'conflict',
    `The data folder ${path} is in use by another process${holder === '' ? '' : ` (pid ${holder})`}.`,
  );

const unusable = (detail: string, cause: unknown): TwofoldError => {
  const { code } = cause as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new TwofoldError(full ? 'storage_full' : 'invalid_value', detail, { cause });
};

/** A lock file as we write it: what makes a folder recognisably ours. */
const isLockFile = (file: string): boolean => {
  const found = statSync(file, { throwIfNoEntry: false });
  if (found?.isFile() !== true || found.uid !== process.geteuid?.()) return false;
  return (found.mode & 0o077) === 0 && /^(\d+\n)?$/u.test(readFileSync(file, 'utf8'));
};

/** Only an empty folder, or one of ours: a setting that names /tmp must not close it to the host. */
const mayTighten = (path: string, mode: number): boolean => {
  if ((mode & STICKY) !== 0) return false;
  const others = readdirSync(path).filter((name) => name !== 'lost+found');
  return others.length === 0 || isLockFile(join(path, LOCK_FILE));
};

/** As mkdir -p. Node's own loops for ever below a folder that can have no others, as /proc. */
const makeFolders = (dir: string): void => {
  if (existsSync(dir)) return;
  makeFolders(dirname(dir));
  try {
    mkdirSync(dir, { mode: 0o700 });
  } catch (error) {
    // Another process may have made it meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
};

const makePrivate = (dir: string): string => {
  try {
    makeFolders(resolve(dir));
    const path = realpathSync(dir);
    const { uid, mode } = statSync(path);
    if (uid !== process.geteuid?.()) {
      throw new TwofoldError('invalid_value', `The data folder ${path} belongs to another user.`);
    }
    if ((mode & 0o077) === 0) return path;
    if (!mayTighten(path, mode)) {
      throw new TwofoldError(
        'invalid_value',
        `The data folder ${path} is open to others and holds what is not ours. Name a folder of its ` +
          'own, or close this one: chmod 700',
      );
    }
    chmodSync(path, 0o700);
    return path;
  } catch (error) {
    if (TwofoldError.is(error)) throw error;
    throw unusable(`The data folder ${dir} cannot be made or read.`, error);
  }
};

const socketLock = (path: string): Promise<Server> => {
  const { dev, ino } = statSync(path);
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', () => reject(inUse(path, '')));
    server.listen(`\0twofold-data-${dev}-${ino}`, () => resolve(server.unref()));
  });
};

const openLockFile = (file: string): number => {
  try {
    return openSync(file, 'a+', 0o600);
  } catch (error) {
    throw unusable(`The lock ${file} cannot be opened.`, error);
  }
};

const writeHolder = (descriptor: number, file: string): void => {
  try {
    ftruncateSync(descriptor);
    writeSync(descriptor, `${process.pid}\n`);
  } catch (error) {
    throw unusable(`The lock ${file} cannot be written.`, error);
  }
};

/** Whether the process that wrote the lock's file has ended: then its workers are what holds it. */
const hasEnded = (holder: string): boolean => {
  if (holder === '') return false;
  try {
    process.kill(Number(holder), 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
};

/** By `flock`, which waits as long as it is told to. */
const takeLock = (descriptor: number, wait: readonly string[]) =>
  spawnSync('flock', [...wait, '-E', String(HELD), '3'], {
    stdio: ['ignore', 'ignore', 'ignore', descriptor],
  });

/**
 * Makes `dir` if need be (mode 0700), tightens its mode where it is ours or empty, and takes its lock.
 *
 * @throws TwofoldError `conflict` when another process has the lock, `invalid_value` when the folder
 *   cannot be used, `storage_full` when it cannot be made or locked for want of room.
 */
export const lockDataFolder = async (dir: string): Promise<DataFolder> => {
  const path = makePrivate(dir);
  const file = join(path, LOCK_FILE);
  const descriptor = openLockFile(file);
  let taken = takeLock(descriptor, ['-n']);
  if (taken.status === HELD && hasEnded(readFileSync(file, 'utf8').trim())) {
    taken = takeLock(descriptor, ['-w', String(ORPHANS_S)]);
  }
  if (taken.status !== 0 && taken.error === undefined) {
    const holder = readFileSync(file, 'utf8').trim();
    closeSync(descriptor);
    throw taken.status === HELD
      ? inUse(path, holder)
      : new TwofoldError('invalid_value', `The data folder ${path} cannot be locked.`);
  }
  let server: Server | undefined;
  try {
    server = taken.error === undefined ? undefined : await socketLock(path);
    writeHolder(descriptor, file);
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
  let held = true;
  return {
    path,
    descriptor: server === undefined ? descriptor : null,
    release: () => {
      if (!held) return;
      held = false;
      server?.close();
      closeSync(descriptor);
    },
  };
};
