/** Small private files (mode 0600) that are either whole or absent, whenever the process is killed. */
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { TwofoldError } from '../errors.ts';

const OWNER_ONLY = 0o600;
const OTHERS = 0o077;

/**
 * Writes beside the target, flushes, renames over it and flushes the folder. One writer at a time;
 * what a killed writer left is written over by the next.
 *
 * @throws TwofoldError storage_full, or invalid_value when it cannot be written
 */
export async function writePrivateFile(path: string, content: Uint8Array | string): Promise<void> {
  const draft = `${path}.new`;
  try {
    const file = await open(draft, 'w', OWNER_ONLY);
    try {
      await file.chmod(OWNER_ONLY);
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined);
    throw notWritten(path, error);
  }
  await syncFolder(dirname(path));
}

/**
 * The content, or undefined where there is no such file. The mode is read from the open file, so that
 * what was checked is what was read.
 *
 * @throws TwofoldError invalid_value when it cannot be read, is no plain file, belongs to another
 *   user than ours and root, or others than its owner may open it
 */
export async function readPrivateFile(path: string): Promise<Uint8Array | undefined> {
  const file = await open(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw refused(path, 'cannot be read', error);
  });
  if (file === undefined) return undefined;
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw refused(path, 'is not a plain file');
    if (stats.uid !== 0 && stats.uid !== process.geteuid?.()) {
      throw refused(path, 'belongs to another user');
    }
    if ((stats.mode & OTHERS) !== 0) {
      throw refused(path, 'can be opened by others: chmod 600 it, or remove it to renew it');
    }
    return await file.readFile();
  } finally {
    await file.close();
  }
}

const refused = (path: string, why: string, cause?: unknown): TwofoldError =>
  new TwofoldError('invalid_value', `${path} ${why}.`, { cause });

function notWritten(path: string, cause: unknown): TwofoldError {
  const { code } = cause as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new TwofoldError(full ? 'storage_full' : 'invalid_value', `${path} cannot be written.`, {
    cause,
  });
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
