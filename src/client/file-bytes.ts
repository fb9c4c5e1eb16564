/** Whole reads and writes at an offset, which a system call may do in parts. */
import { readSync, writeSync } from 'node:fs';

/** Fills `buffer`; false when the file ends before. */
export function readFully(fd: number, buffer: Uint8Array, position: number): boolean {
  let done = 0;
  while (done < buffer.length) {
    const read = readSync(fd, buffer, done, buffer.length - done, position + done);
    if (read === 0) return false;
    done += read;
  }
  return true;
}

/** Writes all of `buffer`; a disk that fills up midway fails. */
export function writeFully(fd: number, buffer: Uint8Array, position: number): void {
  let done = 0;
  while (done < buffer.length) {
    done += writeSync(fd, buffer, done, buffer.length - done, position + done);
  }
}
