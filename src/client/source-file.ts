/** A plain file that is read while nobody may change it. */
import { closeSync, constants, fstatSync, openSync, statSync } from 'node:fs';
import type { BigIntStats } from 'node:fs';

import { ClientError, fileFailure } from './client-error.ts';
import { readFully } from './file-bytes.ts';

export class SourceFile {
  readonly fd: number;
  readonly path: string;
  readonly #opened: BigIntStats;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.fd = fd;
    this.#opened = fstatSync(fd, { bigint: true });
  }

  /** @throws ClientError file_failed when it cannot be read or is no plain file */
  static open(path: string): SourceFile {
    let fd: number | undefined;
    try {
      // Without waiting for the other end of a pipe, which is refused below.
      fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
      const file = new SourceFile(path, fd);
      if (!file.#opened.isFile()) {
        throw new ClientError('file_failed', `${path} is not a plain file.`);
      }
      return file;
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      throw fileFailure(error);
    }
  }

  get length(): number {
    return Number(this.#opened.size);
  }

  /** Permission bits. */
  get mode(): number {
    return Number(this.#opened.mode) & 0o777;
  }

  get owner(): { readonly uid: number; readonly gid: number } {
    return { uid: Number(this.#opened.uid), gid: Number(this.#opened.gid) };
  }

  /**
   * Exactly so many bytes.
   * @throws ClientError invalid_sealed_file when the file ends before, file_failed
   */
  read(position: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    try {
      if (readFully(this.fd, bytes, position)) return bytes;
    } catch (error) {
      throw fileFailure(error);
    }
    throw new ClientError('invalid_sealed_file', 'The file is cut short.');
  }

  /**
   * That nobody wrote to it since it was opened, as far as its size, its times and its end tell.
   * @throws ClientError source_changed, file_failed
   */
  assertUnchanged(): void {
    const now = fstatSync(this.fd, { bigint: true });
    const same = now.size === this.#opened.size && now.mtimeNs === this.#opened.mtimeNs;
    if (!same) throw new ClientError('source_changed', `${this.path} changed while it was read.`);
    if (this.#goesOn()) {
      throw new ClientError('source_changed', `${this.path} has more than its size says.`);
    }
  }

  /** Whether there is a byte behind its size: /proc, /sys and some network file systems give sizes of 0. */
  #goesOn(): boolean {
    try {
      return readFully(this.fd, new Uint8Array(1), this.length);
    } catch (error) {
      throw fileFailure(error);
    }
  }

  /**
   * Also that its path still leads to it.
   * @throws ClientError source_changed
   */
  assertInPlace(): void {
    this.assertUnchanged();
    const there = statSync(this.path, { bigint: true, throwIfNoEntry: false });
    const same = there?.ino === this.#opened.ino && there.dev === this.#opened.dev;
    if (!same) throw new ClientError('source_changed', `${this.path} was replaced meanwhile.`);
  }

  close(): void {
    closeSync(this.fd);
  }
}
