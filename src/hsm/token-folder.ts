/** The folder of a file-based token, where its disk can be asked whether it is full. */
import { readFile, statfs } from 'node:fs/promises';

/** A token object takes a few kB in several files. */
const ROOM_BYTES = 64 * 1024;

/** `directories.tokendir` of a SoftHSM configuration, or `undefined` where there is none. */
export async function tokenFolderOf(softhsmConf: string): Promise<string | undefined> {
  const text = await readFile(softhsmConf, 'utf8').catch(() => '');
  return /^\s*directories\.tokendir\s*=\s*(\S.*?)\s*$/m.exec(text)?.[1];
}

export async function isFull(folder: string): Promise<boolean> {
  const { bavail, bsize, ffree, files } = await statfs(folder);
  return bavail * bsize < ROOM_BYTES || (files > 0 && ffree < 8);
}
