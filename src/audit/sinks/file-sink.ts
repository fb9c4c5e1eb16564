/**
 * JSON lines in a file of this instance, which is its own position: the last whole line tells where
 * to go on. Lines are on the disk before the next are read; what a kill or a full disk tore is cut off.
 *
 * When a file is full it becomes `NAME.1`, that one `NAME.2`, and so on; the oldest is removed.
 */
import { open, rename, rm, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { KeptRecord, Sink, SinkPosition, SinkRecord } from './ports.ts';

export interface FileSinkOptions {
  readonly path: string;
  /** A file that has reached this many bytes is followed by a new one. */
  readonly rotateBytes: number;
  /** Full files that are kept. */
  readonly keep: number;
}

interface LastLine extends KeptRecord {
  readonly index: number;
}

/** Longer than any line: an entry has at most 65,535 bytes, and JSON at most six characters for each. */
const LONGEST_LINE = 1 << 20;
const LINE_END = 0x0a;

export class FileSink implements Sink, SinkPosition {
  readonly #options: FileSinkOptions;
  #file: FileHandle | null = null;
  #size = 0;
  #next: number | null = null;
  #last: LastLine | null = null;

  constructor(options: FileSinkOptions) {
    this.#options = options;
  }

  async next(): Promise<number | null> {
    await this.#close();
    await this.#open();
    const last = this.#size > 0 ? await lastLine(this.#file, this.#size) : await this.#before();
    this.#last = last;
    this.#next = last === null ? null : last.index + 1;
    return this.#next;
  }

  kept(): KeptRecord | null {
    return this.#last;
  }

  /** The lines have moved it already. */
  // eslint-disable-next-line @typescript-eslint/require-await -- a position moves by promises
  async advance(from: number | null, to: number): Promise<boolean> {
    if (this.#next !== from && this.#next !== to) return false;
    this.#next = to;
    return true;
  }

  async deliver(records: readonly SinkRecord[]): Promise<void> {
    const first = records[0];
    const last = records.at(-1);
    if (first === undefined || last === undefined) return;
    if (this.#size >= this.#options.rotateBytes) await this.#rotate();
    const file = this.#file ?? (await this.#open());
    const bytes = Buffer.from(records.map(({ json }) => `${json}\n`).join(''));
    try {
      await writeAll(file, bytes, this.#size);
      await file.datasync();
    } catch (error) {
      // Cut off now, if the disk lets us, so that no reader sees half a line; `next` does it again.
      await file.truncate(this.#size).catch(() => undefined);
      throw error;
    }
    this.#size += bytes.length;
    this.#next = last.index + 1;
  }

  async close(): Promise<void> {
    await this.#close();
  }

  async #open(): Promise<FileHandle> {
    const { path } = this.#options;
    // 'a+' would append wherever the file ends by then; places are ours to choose.
    const file = await open(path, 'r+', 0o600).catch(async (error: unknown) => {
      if (!isAbsent(error)) throw error;
      const made = await open(path, 'wx+', 0o600);
      await syncFolder(dirname(path));
      return made;
    });
    this.#file = file;
    const info = await file.stat();
    if (!info.isFile()) throw new Error('the file of a sink is no regular file');
    this.#size = await wholeLines(file, info.size);
    if (this.#size < info.size) await file.truncate(this.#size);
    return file;
  }

  async #close(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.close();
  }

  /** Of an empty file: the last line of the one before it. */
  async #before(): Promise<LastLine | null> {
    const file = await open(`${this.#options.path}.1`, 'r').catch((error: unknown) => {
      if (isAbsent(error)) return null;
      throw error;
    });
    if (file === null) return null;
    try {
      const { size } = await file.stat();
      return size === 0 ? null : await lastLine(file, size);
    } finally {
      await file.close();
    }
  }

  async #rotate(): Promise<void> {
    const { path, keep } = this.#options;
    await this.#close();
    await rm(`${path}.${String(keep)}`, { force: true });
    for (let number = keep - 1; number >= 1; number -= 1) {
      await renameIfThere(`${path}.${String(number)}`, `${path}.${String(number + 1)}`);
    }
    await rename(path, `${path}.1`);
    await syncFolder(dirname(path));
    await this.#open();
  }
}

const isAbsent = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

async function writeAll(file: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, at + written);
    written += bytesWritten;
  }
}

/** Where the last whole line ends. */
async function wholeLines(file: FileHandle, size: number): Promise<number> {
  const tail = await readTail(file, size);
  const end = tail.lastIndexOf(LINE_END) + 1;
  if (end === 0 && size > tail.length) throw new Error('the file of a sink holds something else');
  return size - tail.length + end;
}

/** @throws when the file ends in anything but a record of ours: another program writes to it too */
async function lastLine(file: FileHandle | null, size: number): Promise<LastLine> {
  if (file === null) throw new Error('the file of a sink is not open');
  const tail = await readTail(file, size);
  const line = tail.subarray(0, -1);
  const text = line.subarray(line.lastIndexOf(LINE_END) + 1).toString();
  const { index, id, at } = JSON.parse(text) as Readonly<Record<string, unknown>>;
  if (typeof index === 'number' && Number.isSafeInteger(index)) {
    return { index, id: String(id), at: new Date(String(at)) };
  }
  throw new Error('the file of a sink holds something else');
}

async function readTail(file: FileHandle, size: number): Promise<Buffer> {
  const length = Math.min(size, LONGEST_LINE);
  const tail = Buffer.alloc(length);
  let read = 0;
  while (read < length) {
    const { bytesRead } = await file.read(tail, read, length - read, size - length + read);
    if (bytesRead === 0) throw new Error('the file of a sink became shorter');
    read += bytesRead;
  }
  return tail;
}

async function renameIfThere(from: string, to: string): Promise<void> {
  if ((await stat(from).catch(() => null)) !== null) await rename(from, to);
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
