/** Reading files whose content is secret: only when nobody but their owner can. */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { TwofoldError } from '../errors.ts';

const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, '0');

/** Bits that must be clear: group and others for a PIN or token, others for a TLS key. */
export type Closed = 0o077 | 0o007;

/**
 * The bytes of a secret file, without one trailing line break. The caller wipes them.
 *
 * The mode is read from the open file, so that what was checked is what was read. Symbolic links are
 * followed: secret volumes consist of them.
 *
 * @param owner whose it may be too, by number: for root, who looks at what another user's program reads
 * @throws TwofoldError `invalid_value` when the file is missing, empty, no regular file, open to
 *   others, or owned by another user than ours, root and `owner`.
 */
export const readSecretFile = (
  path: string,
  closed: Closed = 0o077,
  owner: number | null = null,
): Uint8Array => {
  const refuse = (why: string, cause?: unknown): never => {
    throw new TwofoldError('invalid_value', `${path} ${why}`, { cause });
  };
  let descriptor: number;
  try {
    // Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    return refuse('cannot be read', error);
  }
  try {
    const { mode, uid } = fstatSync(descriptor);
    if ((mode & 0o170000) !== 0o100000) refuse('is not a regular file');
    if ((mode & closed) !== 0)
      refuse(`is open to others (mode ${octal(mode)}); run: chmod 600 ${path}`);
    if (![0, process.geteuid?.(), owner].includes(uid)) refuse('belongs to another user');
    const bytes = readFileSync(descriptor);
    let end = bytes.length;
    if (bytes[end - 1] === 0x0a) end -= 1;
    if (bytes[end - 1] === 0x0d) end -= 1;
    if (end === 0) refuse('is empty');
    return bytes.subarray(0, end);
  } finally {
    closeSync(descriptor);
  }
};
