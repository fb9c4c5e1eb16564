/**
 * A backup into another folder, in parts that are kept: a copy that was cut off goes on behind what is there
 * and the same. The taking of a backup cannot: its snapshot ends with its transaction, and another snapshot
 * is another backup. What is slow is the way to the other place, and that goes on.
 */
import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { TwofoldError } from '../errors.ts';
import { verifyChunks } from './chunk-reader.ts';
import { COPYING, FILES, fileFailure, putFile, syncFolder } from './folder.ts';
import type { OpenBackup } from './verify.ts';

const PART = 1_048_576;
const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;

export interface Copied {
  readonly path: string;
  /** Of the content: what was there of an earlier run, and all of it. */
  readonly found: number;
  readonly bytes: number;
}

/**
 * Resolves once the copy is whole, read back against the signed hash, and has its name.
 * @throws TwofoldError already_exists where there is one of this name; storage_full, integrity_failed: what was
 *   written stays for the next run
 */
export async function copyBackup(backup: OpenBackup, to: string): Promise<Copied> {
  const name = basename(backup.path);
  const [path, partial] = [join(to, name), join(to, COPYING + name)];
  try {
    await mkdir(to, { recursive: true, mode: FOLDER_MODE });
    if ((await readdir(to)).includes(name)) {
      throw new TwofoldError('already_exists', `${path} is there already.`);
    }
    await mkdir(partial, { recursive: true, mode: FOLDER_MODE });
    await requireFolder(partial);
    const found = await copyContent(backup, join(partial, FILES.content));
    const texts = [
      [FILES.manifest, backup.manifestBytes],
      [FILES.signatures, backup.signatures],
    ] as const;
    for (const [file, bytes] of texts) {
      await rm(join(partial, file), { force: true });
      await putFile(join(partial, file), bytes);
    }
    await syncFolder(partial);
    await rename(partial, path);
    await syncFolder(to);
    return { path, found, bytes: backup.content.length };
  } catch (error) {
    throw fileFailure(error, 'The backup could not be copied');
  }
}

/** Others may write where copies are kept: what they put in the way leads nowhere else. */
async function requireFolder(path: string): Promise<void> {
  if ((await lstat(path)).isDirectory()) return;
  throw new TwofoldError('integrity_failed', `${path} is no folder of a copy of ours: remove it.`);
}

/** @returns how much of it was there */
async function copyContent({ content }: OpenBackup, file: string): Promise<number> {
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
  const target = await open(file, O_RDWR | O_CREAT | O_NOFOLLOW, FILE_MODE);
  try {
    const found = await sameParts(content.file, target, content.length);
    await target.truncate(found);
    const buffer = Buffer.alloc(PART);
    for (let at = found; at < content.length;) {
      const part = await readPart(content.file, buffer, at);
      if (part.length === 0)
        throw new TwofoldError('integrity_failed', 'The content is cut short.');
      await writePart(target, part, at);
      at += part.length;
    }
    await target.sync();
    await verifyChunks({ ...content, file: target });
    return found;
  } finally {
    await target.close();
  }
}

/** Where the two files part, in whole parts. */
async function sameParts(from: FileHandle, there: FileHandle, length: number): Promise<number> {
  const { size } = await there.stat();
  const [ours, theirs] = [Buffer.alloc(PART), Buffer.alloc(PART)];
  let at = 0;
  while (at + PART <= Math.min(size, length)) {
    const [a, b] = [await readPart(from, ours, at), await readPart(there, theirs, at)];
    if (!a.equals(b)) break;
    at += PART;
  }
  return at;
}

/** Shorter than the buffer at the end of the file alone. */
async function readPart(file: FileHandle, buffer: Buffer, position: number): Promise<Buffer> {
  let filled = 0;
  while (filled < buffer.length) {
    const left = buffer.length - filled;
    const { bytesRead } = await file.read(buffer, filled, left, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

async function writePart(file: FileHandle, part: Buffer, position: number): Promise<void> {
  let written = 0;
  while (written < part.length) {
    const left = part.length - written;
    const { bytesWritten } = await file.write(part, written, left, position + written);
    written += bytesWritten;
  }
}
