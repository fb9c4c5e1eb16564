/** Whole reads and writes at an offset, which a system call may do in parts. */
import { readSync, writeSync, writevSync } from 'node:fs';

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

/** Writes the parts one behind the other, all of them; a disk that fills up midway fails. */
export function writeFully(fd: number, parts: readonly Uint8Array[], position: number): void {
  let offset = writevSync(fd, parts, position);
  for (const part of parts) {
    // Once a call has done less than it was asked for, the rest goes part by part.
    let done = Math.min(offset, part.length);
    offset -= done;
    position += done;
    while (done < part.length) {
      const written = writeSync(fd, part, done, part.length - done, position);
      done += written;
      position += written;
    }
  }
}
