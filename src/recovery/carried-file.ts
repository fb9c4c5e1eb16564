/** Reading a small file that somebody carried here, on a medium that anybody could have written. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

import { TwofoldError } from '../errors.ts';

/** More than any of them has that is not told a bound of its own. */
const MOST_BYTES = 1_048_576;

/** The text of it; as `readCarriedBytes`. @throws TwofoldError invalid_value */
export const readCarriedFile = (path: string, most = MOST_BYTES): string =>
  readCarriedBytes(path, most).toString('utf8');

/**
 * What is in a plain file of `most` bytes at most. A pipe, a device or a file that says it is shorter than
 * it is holds nobody up.
 * @throws TwofoldError invalid_value
 */
export function readCarriedBytes(path: string, most = MOST_BYTES): Buffer {
  const refused = (why: string) => new TwofoldError('invalid_value', `${path} ${why}.`);
  try {
    // Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      if (!fstatSync(descriptor).isFile()) throw refused('is no plain file');
      const bytes = Buffer.alloc(most + 1);
      const length = fill(descriptor, bytes);
      if (length > most) throw refused('is too long');
      return bytes.subarray(0, length);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    if (TwofoldError.is(error)) throw error;
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    throw refused(`cannot be read: ${code}`);
  }
}

function fill(descriptor: number, bytes: Buffer): number {
  let length = 0;
  while (length < bytes.length) {
    const read = readSync(descriptor, bytes, length, bytes.length - length, null);
    if (read === 0) break;
    length += read;
  }
  return length;
}
