/**
 * A file that appears whole or not at all: written under a temporary name in the target's folder,
 * flushed, given its name, the folder flushed. Nothing is ever written over.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, fchmodSync, fchownSync, fstatSync } from 'node:fs';
import { fsync, openSync, read, write } from 'node:fs';
import { chmod, copyFile, link, lstat, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

import { ClientError, fileFailure, throwIfAborted } from './client-error.ts';
import type { SourceFile } from './source-file.ts';

const readAt = promisify(read);
const writeAt = promisify(write);
const sync = promisify(fsync);

/** Bytes copied at a time. */
const COPY_PIECE = 4_194_304;

/** File systems without hard links say one of these. */
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];
/** File systems that cannot flush a folder, as network shares, say one of these. */
const NO_FOLDER_SYNC = ['EINVAL', 'EBADF', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'];

/** @throws ClientError target_exists, file_failed */
export async function assertAbsent(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fileFailure(error);
  });
  if (found !== undefined) throw new ClientError('target_exists', `${path} exists.`);
}

export class TargetFile {
  /** Open for reading and writing until `publish` or `discard`. */
  readonly fd: number;
  readonly path: string;
  readonly #temporary: string;
  #open = true;

  private constructor(path: string, temporary: string, fd: number) {
    this.path = path;
    this.#temporary = temporary;
    this.fd = fd;
  }

  /** @throws ClientError file_failed, storage_full */
  static create(path: string, mode: number): TargetFile {
    const temporary = temporaryName(path);
    try {
      return new TargetFile(path, temporary, openSync(temporary, 'wx+', mode));
    } catch (error) {
      throw fileFailure(error);
    }
  }

  /**
   * Begins as a copy of `source`, with its owner, and is to take its place; shares its blocks where the
   * file system can.
   * @throws ClientError storage_full, file_failed (also where the owner cannot be kept), source_changed, interrupted
   */
  static async copyOf(source: SourceFile, signal: AbortSignal | undefined): Promise<TargetFile> {
    const temporary = temporaryName(source.path);
    const how = constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE;
    const shared = await copyFile(source.path, temporary, how).then(
      () => true,
      () => false,
    );
    let file: TargetFile | undefined;
    try {
      // It has the mode of the source, which may be closed to writing.
      if (shared) await chmod(temporary, 0o600);
      const fd = openSync(temporary, shared ? 'r+' : 'wx+', 0o600);
      file = new TargetFile(source.path, temporary, fd);
      if (!shared) await copyBytes(source, fd, signal);
      keepOwner(fd, source);
      fchmodSync(fd, source.mode);
      return file;
    } catch (error) {
      await file?.discard();
      if (file === undefined && shared) await rm(temporary, { force: true });
      throw fileFailure(error);
    }
  }

  /**
   * Makes the bytes durable. Nobody else uses `fd` afterwards.
   * @throws ClientError storage_full, file_failed
   */
  async flush(): Promise<void> {
    try {
      await sync(this.fd);
    } catch (error) {
      throw fileFailure(error);
    }
    this.#close();
  }

  /**
   * Gives the flushed file its name, durably.
   * @throws ClientError target_exists, file_failed; the name is not given then
   */
  async publish(): Promise<void> {
    await this.#name();
    try {
      await syncFolderOf(this.path);
    } catch (error) {
      await withdraw(this.path);
      throw error;
    }
  }

  /**
   * Puts the flushed file in the place of the one that is there.
   * @throws ClientError file_failed, and the one that is there stays; not_durable, and it is replaced
   */
  async replace(): Promise<void> {
    await this.#rename();
    await syncFolderOf(this.path).catch((error: unknown) => {
      throw new ClientError('not_durable', undefined, error);
    });
  }

  /** Removes the temporary file, if it is still there. Never throws. */
  async discard(): Promise<void> {
    this.#close();
    await rm(this.#temporary, { force: true }).catch(() => undefined);
  }

  /** By a link, because that fails where the name is taken. */
  async #name(): Promise<void> {
    try {
      await link(this.#temporary, this.path);
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') throw new ClientError('target_exists', `${this.path} exists.`);
      if (!NO_LINKS.includes(code)) throw fileFailure(error);
      await assertAbsent(this.path);
      await this.#rename();
    }
    await this.discard();
  }

  async #rename(): Promise<void> {
    await rename(this.#temporary, this.path).catch((error: unknown) => {
      throw fileFailure(error);
    });
  }

  #close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }
}

function temporaryName(path: string): string {
  return join(dirname(path), `.twofold-${randomBytes(8).toString('hex')}.partial`);
}

async function copyBytes(source: SourceFile, fd: number, signal: AbortSignal | undefined) {
  const buffer = new Uint8Array(COPY_PIECE);
  let position = 0;
  while (position < source.length) {
    throwIfAborted(signal);
    const { bytesRead } = await readAt(source.fd, buffer, 0, COPY_PIECE, position);
    if (bytesRead === 0) throw new ClientError('source_changed');
    let done = 0;
    while (done < bytesRead) {
      const at = position + done;
      done += (await writeAt(fd, buffer, done, bytesRead - done, at)).bytesWritten;
    }
    position += bytesRead;
  }
}

/** Removes a published file again, durably where it can be. Never throws. */
export async function withdraw(path: string): Promise<void> {
  await rm(path, { force: true }).catch(() => undefined);
  await syncFolderOf(path).catch(() => undefined);
}

/** As far as the file system can. */
async function syncFolderOf(path: string): Promise<void> {
  try {
    const folder = await open(dirname(path), 'r');
    try {
      await folder.sync().catch((error: unknown) => {
        if (!NO_FOLDER_SYNC.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
      });
    } finally {
      await folder.close();
    }
  } catch (error) {
    throw fileFailure(error);
  }
}

/** A file that changed hands could be closed to whoever had it. */
function keepOwner(fd: number, source: SourceFile): void {
  const { uid, gid } = source.owner;
  const made = fstatSync(fd);
  if (made.uid !== uid || made.gid !== gid) fchownSync(fd, uid, gid);
}
