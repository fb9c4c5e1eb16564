/**
 * The folder of a backup: written under a name that says that it is not whole, flushed, and given its own
 * name by one rename. What a killed run leaves the next one removes.
 */
import { constants } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import { TwofoldError } from '../errors.ts';

export const FILES = {
  manifest: 'manifest.json',
  signatures: 'signatures.json',
  content: 'content',
} as const;
const PARTIAL = '.partial-';
/** Begins the name of a copy that is not whole, which the next run goes on with. */
export const COPYING = '.copying-';
const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
const MAX_TEXT = 8 * 1_048_576;

/** @throws TwofoldError storage_full, or internal with the words of the system as its cause */
export function fileFailure(error: unknown, what: string): Error {
  if (TwofoldError.is(error)) return error;
  const { code = 'unknown error' } = error as NodeJS.ErrnoException;
  const full = ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code);
  return new TwofoldError(full ? 'storage_full' : 'internal', `${what}: ${code}.`, {
    cause: error,
  });
}

async function filed<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fileFailure(error, what);
  }
}

export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** UTC time and the beginning of the id: names that sort by time. */
export function nameOf(id: string, at: Date): string {
  const time = at.toISOString().replaceAll(/[-:]/gu, '').replace(/\.\d+/u, '');
  return `${time}-${id.slice(0, 8)}`;
}

/** Begins the names of what an installation writes: others may keep theirs in the same folder. */
const partialOf = (installation: string): string => `${PARTIAL}${installation}.`;

/** Removes what killed runs of the installation left; only for who knows that none of its own runs. */
export async function removePartial(
  folder: string,
  installation: string,
): Promise<readonly string[]> {
  return filed('The folder of backups cannot be used', async () => {
    await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
    const own = partialOf(installation);
    const left = (await readdir(folder)).filter((name) => name.startsWith(own));
    for (const name of left) await rm(join(folder, name), { recursive: true, force: true });
    return left;
  });
}

/** Durable; new. */
export async function putFile(path: string, bytes: Uint8Array | string): Promise<void> {
  const file = await open(path, 'wx', FILE_MODE);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

export class NewFolder {
  readonly #within: string;
  readonly #temporary: string;

  private constructor(within: string, temporary: string) {
    this.#within = within;
    this.#temporary = temporary;
  }

  static async make(
    within: string,
    { installation, id }: { readonly installation: string; readonly id: string },
  ): Promise<NewFolder> {
    const temporary = join(within, `${partialOf(installation)}${id}`);
    await filed('The folder of the backup cannot be made', () =>
      mkdir(temporary, { mode: FOLDER_MODE }),
    );
    return new NewFolder(within, temporary);
  }

  /** For writing and reading; new. */
  content(): Promise<FileHandle> {
    return filed('The backup cannot be written', () =>
      open(join(this.#temporary, FILES.content), 'wx+', FILE_MODE),
    );
  }

  async put(name: string, bytes: Uint8Array | string): Promise<void> {
    await filed('The backup cannot be written', () => putFile(join(this.#temporary, name), bytes));
  }

  /** @returns its path */
  async publish(name: string): Promise<string> {
    const path = join(this.#within, name);
    await filed('The backup cannot be given its name', async () => {
      await syncFolder(this.#temporary);
      await rename(this.#temporary, path);
      await syncFolder(this.#within);
    });
    return path;
  }

  /** Never throws. */
  async discard(): Promise<void> {
    await rm(this.#temporary, { recursive: true, force: true }).catch(() => undefined);
  }
}

export interface OpenedFolder {
  readonly manifest: Uint8Array;
  readonly signatures: string;
  readonly content: FileHandle;
  readonly length: number;
}

/**
 * For reading. A pipe that nobody writes would be waited for without end, and a device may have none.
 * @throws TwofoldError integrity_failed for what is no regular file
 */
async function openRegular(
  path: string,
): Promise<{ readonly file: FileHandle; readonly size: number }> {
  const notRegular = () => new TwofoldError('integrity_failed', `${path} is no regular file.`);
  // Opening alone has effects on some devices.
  if (!(await stat(path)).isFile()) throw notRegular();
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const found = await file.stat();
    if (!found.isFile()) throw notRegular();
    return { file, size: found.size };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** @throws TwofoldError not_found, integrity_failed for a folder that is no whole backup */
export async function openFolder(path: string): Promise<OpenedFolder> {
  const name = path.split('/').at(-1) ?? '';
  if ([PARTIAL, COPYING].some((beginning) => name.startsWith(beginning))) {
    throw new TwofoldError('integrity_failed', `${path} is a backup that was never finished.`);
  }
  const missing = (name: string, error: unknown): never => {
    const { code } = error as NodeJS.ErrnoException;
    if (TwofoldError.is(error)) throw error;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') {
      throw new TwofoldError('invalid_value', `${join(path, name)} cannot be read: ${code ?? ''}.`);
    }
    throw new TwofoldError('not_found', `${path} is no backup: ${name} is missing.`);
  };
  const text = async (name: string) => {
    const { file, size } = await openRegular(join(path, name));
    try {
      if (size <= MAX_TEXT) return await file.readFile();
    } finally {
      await file.close();
    }
    throw new TwofoldError('integrity_failed', `${join(path, name)} is too long.`);
  };
  const manifest = await text(FILES.manifest).catch((error: unknown) =>
    missing(FILES.manifest, error),
  );
  const signatures = await text(FILES.signatures).catch((error: unknown) =>
    missing(FILES.signatures, error),
  );
  const content = await openRegular(join(path, FILES.content)).catch((error: unknown) =>
    missing(FILES.content, error),
  );
  return {
    manifest: Uint8Array.from(manifest),
    signatures: signatures.toString('utf8'),
    content: content.file,
    length: content.size,
  };
}

/** Paths of the whole backups of a folder, oldest first. */
export async function backupsIn(folder: string): Promise<readonly string[]> {
  const names = await readdir(folder).catch((error: unknown) => {
    throw new TwofoldError(
      'not_found',
      `${folder} cannot be read: ${(error as NodeJS.ErrnoException).code ?? ''}.`,
    );
  });
  return names
    .filter((name) => /^\d{8}T\d{6}Z-[0-9a-f]{8}$/u.test(name))
    .toSorted()
    .map((name) => join(folder, name));
}
