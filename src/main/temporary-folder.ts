/**
 * Folders for as long as a command runs. A command that is killed leaves its folder, and the next one removes it: a
 * folder is locked while its process lives (`data-folder.ts`), and gets its name once it is, so that no other command
 * takes one for left that somebody is about to use.
 */
import { lstatSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import { LOCK_FILE, lockDataFolder } from '../data-folder.ts';
import { TwofoldError } from '../errors.ts';

/** Before it is locked, which takes milliseconds. */
const MAKING = 'new-';
/** After which a folder that was never locked is nobody's any more. */
const MAKING_MS = 3_600_000;
/** In it, beside its lock. */
const WORK = 'work-';

/**
 * Gives `work` an empty folder (mode 0700), and removes it whatever comes of that.
 * @param purpose part of its name, which commands of one kind have in common
 */
export async function withTemporaryFolder<T>(
  purpose: string,
  work: (folder: string) => Promise<T>,
): Promise<T> {
  const prefix = `twofold-${purpose}-`;
  await removeLeft(prefix);
  const made = mkdtempSync(join(tmpdir(), `${prefix}${MAKING}`));
  let path = made;
  try {
    const lock = await lockDataFolder(made);
    try {
      path = join(tmpdir(), `${prefix}${basename(made).slice(prefix.length + MAKING.length)}`);
      renameSync(made, path);
      return await work(mkdtempSync(join(path, WORK)));
    } finally {
      // What was writing when `work` ended may make one more file.
      rmSync(path, { recursive: true, force: true, maxRetries: 4 });
      lock.release();
    }
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
}

/** Only of this account, and never of a process that lives. What cannot be removed is no reason to end. */
async function removeLeft(prefix: string): Promise<void> {
  for (const name of namesIn(tmpdir()).filter((each) => each.startsWith(prefix))) {
    const path = join(tmpdir(), name);
    try {
      if (isOurs(path, name.startsWith(`${prefix}${MAKING}`) ? MAKING_MS : 0)) await remove(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (!TwofoldError.is(error) && code === undefined) throw error;
    }
  }
}

function isOurs(path: string, olderThanMs: number): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory() !== true || found.uid !== process.geteuid?.()) return false;
  // A folder that somebody gave such a name holds something else.
  const isMade = readdirSync(path).every((name) => name === LOCK_FILE || name.startsWith(WORK));
  return isMade && Date.now() - found.mtimeMs >= olderThanMs;
}

/** None where it may not be listed, which is enough to make folders there. */
function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return [];
    throw error;
  }
}

/** @throws TwofoldError conflict while its process lives */
async function remove(path: string): Promise<void> {
  const lock = await lockDataFolder(path);
  try {
    rmSync(path, { recursive: true, force: true });
  } finally {
    lock.release();
  }
}
