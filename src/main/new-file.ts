/** A new file that a command leaves behind: whole, or not there. */
import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';

/**
 * Writes it durably. Of one that could not be written nothing stays: a part of a private key under its final name would
 * be taken for it, and keep the command from being run again.
 * @throws Error of the system: EEXIST for a file that is there, which stays as it is, ENOSPC, …
 */
export function writeNew(path: string, content: string | Uint8Array, mode: number): void {
  const file = openSync(path, 'wx', mode);
  try {
    try {
      writeFileSync(file, content, { flush: true });
    } finally {
      closeSync(file);
    }
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  }
}
