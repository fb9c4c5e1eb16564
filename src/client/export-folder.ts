/** The folder of an export: each file is there whole or not at all, and what is there stays. */
import { constants } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { fileFailure } from './client-error.ts';

const TEMPORARY = '.partial';
const MODE = 0o600;
const FOLDER_MODE = 0o700;

/** Runs what calls the file system. @throws ClientError file_failed, storage_full */
async function filed<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fileFailure(error);
  }
}

const isAbsent = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

export class ExportTarget {
  readonly #path: string;
  readonly #made = new Set<string>();
  /** Folders that hold new names which are not durable yet. */
  readonly #stale = new Set<string>();

  constructor(path: string) {
    this.#path = path;
  }

  /** Bytes of a file; null when it is not there. */
  async size(name: string): Promise<number | null> {
    return filed(async () => {
      try {
        return (await stat(join(this.#path, name))).size;
      } catch (error) {
        if (isAbsent(error)) return null;
        throw error;
      }
    });
  }

  async text(name: string): Promise<string | null> {
    return filed(async () => {
      try {
        return await readFile(join(this.#path, name), 'utf8');
      } catch (error) {
        if (isAbsent(error)) return null;
        throw error;
      }
    });
  }

  /** Puts a file in its place, in the place of one that is there: its bytes durable before its name is. */
  async put(name: string, pieces: AsyncIterable<string> | Iterable<string | Uint8Array>) {
    const path = join(this.#path, name);
    await filed(async () => {
      await this.#folder(dirname(path));
      const file = await open(path + TEMPORARY, 'w', MODE);
      try {
        for await (const piece of pieces) await file.writeFile(piece);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(path + TEMPORARY, path);
      this.#stale.add(dirname(path));
    });
  }

  /** Puts a file in the place of another; nothing where it is not there. */
  async rename(from: string, to: string): Promise<void> {
    await filed(async () => {
      try {
        await rename(join(this.#path, from), join(this.#path, to));
      } catch (error) {
        if (!isAbsent(error)) throw error;
      }
      this.#stale.add(dirname(join(this.#path, to)));
    });
  }

  async remove(name: string): Promise<void> {
    await filed(() => rm(join(this.#path, name), { force: true }));
  }

  /** Makes the names of the files that were put durable. */
  async flush(): Promise<void> {
    await filed(async () => {
      for (const folder of this.#stale) {
        const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
        try {
          await handle.sync();
        } finally {
          await handle.close();
        }
      }
      this.#stale.clear();
    });
  }

  async #folder(path: string): Promise<void> {
    if (this.#made.has(path)) return;
    await mkdir(path, { recursive: true, mode: FOLDER_MODE });
    for (let at = path; at.length >= this.#path.length; at = dirname(at)) {
      this.#made.add(at);
      this.#stale.add(dirname(at));
    }
  }
}
