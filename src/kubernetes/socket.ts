/**
 * The socket's file. It is made in a folder of mode 0700, gets its mode there and is renamed into place:
 * nobody can connect before its mode says that they may, and a predecessor that closes late removes the
 * path it was made at, not this one.
 */
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { connect } from 'node:net';
import type { Server } from 'node:net';
import { basename, dirname, join } from 'node:path';

import { TwofoldError } from '../errors.ts';
import { lockSocket } from './socket-lock.ts';

/** sun_path of Linux, without its final zero byte. */
const LONGEST_PATH = 107;
const MADE_AS = 's';

export interface SocketOptions {
  readonly path: string;
  /** Number of the group that may connect too; null: the owner alone. */
  readonly group: number | null;
  /** Told once where another process serves the path. */
  readonly onWaiting: () => void;
}

/** A path that is ours until `close`. */
export interface ServedSocket {
  /** Nobody finds the path any more; connections go on. */
  remove(): void;
  /** Lets a successor have it. */
  close(): void;
}

const refused = (detail: string, cause?: unknown) =>
  new TwofoldError('invalid_value', detail, { cause });

/** Of a connect to a socket that nobody listens at, or that has just gone. */
const DEAD: readonly unknown[] = ['ECONNREFUSED', 'ENOENT'];

/**
 * What stands there must be a socket that nobody serves. A program that hangs with its queue full serves it
 * too: it answers EAGAIN.
 * @throws TwofoldError conflict
 */
async function checkFree(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new TwofoldError('conflict', `${path} is there and is no socket: move it away.`);
  }
  const socket = connect(path);
  const refusal = await once(socket, 'connect').then(
    () => null,
    (error: unknown) => (error as NodeJS.ErrnoException).code,
  );
  socket.destroy();
  if (DEAD.includes(refusal)) return;
  const how = refusal === null ? '' : ` (${String(refusal)})`;
  throw new TwofoldError('conflict', `Another program serves ${path}${how}.`);
}

function makeFolder(path: string): string {
  const home = dirname(path);
  if (statSync(home, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw refused(`The folder ${home} of the socket is not there.`);
  }
  try {
    return mkdtempSync(join(home, '.kms-'));
  } catch (error) {
    throw refused(`The folder ${home} of the socket cannot be written to.`, error);
  }
}

/** Null where nothing is. */
const inodeAt = (path: string): bigint | null =>
  lstatSync(path, { bigint: true, throwIfNoEntry: false })?.ino ?? null;

async function listenAt(server: Server, path: string): Promise<void> {
  server.listen(path);
  await once(server, 'listening');
}

/**
 * Listens at once, and stands at its path as soon as no other process does.
 *
 * @throws TwofoldError invalid_value for a path that cannot be used, conflict for one where something else
 *   stands
 */
export async function serveSocket(
  server: Server,
  { path, group, onWaiting }: SocketOptions,
  signal: AbortSignal,
): Promise<ServedSocket> {
  const folder = makeFolder(path);
  try {
    const made = join(folder, MADE_AS);
    if (Buffer.byteLength(made) > LONGEST_PATH || Buffer.byteLength(path) > LONGEST_PATH) {
      throw refused(
        `The path of the socket ${basename(path)} is too long: a shorter folder is needed.`,
      );
    }
    await listenAt(server, made);
    // A unit whose group it is needs no right to give files away, and may have none.
    if (group !== null && statSync(made).gid !== group) chownSync(made, -1, group);
    chmodSync(made, group === null ? 0o600 : 0o660);
    const lock = await lockSocket(path, onWaiting, signal);
    const inode = inodeAt(made);
    try {
      await checkFree(path);
      renameSync(made, path);
    } catch (error) {
      lock.release();
      throw error;
    }
    return {
      remove: () => {
        // Where somebody took the lock's file away, a successor may stand there already.
        if (inode !== null && inodeAt(path) === inode) rmSync(path, { force: true });
      },
      close: () => lock.release(),
    };
  } catch (error) {
    server.close();
    if (TwofoldError.is(error)) throw error;
    throw refused(`The socket ${path} cannot be made.`, error);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
