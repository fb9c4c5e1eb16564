/** A passphrase from a file that nobody else can read, or from the terminal, which does not show it. */
import type { Readable } from 'node:stream';

import { ClientError } from '../client/client-error.ts';
import { readSecretFile } from '../config/secret-file.ts';

const MAX_BYTES = 1024;
const [ENTER, LINE_FEED, INTERRUPT, END, BACKSPACE, DELETE] = [0x0d, 0x0a, 0x03, 0x04, 0x08, 0x7f];

/**
 * UTF-8; the caller wipes it.
 * @throws ClientError passphrase_needed, interrupted
 * @throws TwofoldError invalid_value for a file that others may read
 */
export async function readPassphrase(file: string | undefined): Promise<Uint8Array> {
  if (file !== undefined) return readSecretFile(file);
  if (!process.stdin.isTTY) {
    const how = 'The private key is encrypted: give --passphrase-file FILE, or use a terminal.';
    throw new ClientError('passphrase_needed', how);
  }
  process.stderr.write('Passphrase: ');
  process.stdin.setRawMode(true);
  try {
    return await typed(process.stdin);
  } finally {
    process.stdin.setRawMode(false);
    process.stdin.pause();
    process.stderr.write('\n');
  }
}

/** Bytes until the line ends; a deletion takes back one character. The terminal stays, for another one. */
async function typed(terminal: Readable): Promise<Uint8Array> {
  const bytes = Buffer.alloc(MAX_BYTES);
  let length = 0;
  const pieces: AsyncIterable<Buffer> = terminal.iterator({ destroyOnReturn: false });
  for await (const piece of pieces) {
    try {
      for (const byte of piece) {
        if (byte === INTERRUPT) throw new ClientError('interrupted');
        if (byte === ENTER || byte === LINE_FEED || byte === END) return taken(bytes, length);
        if (byte === BACKSPACE || byte === DELETE) length = before(bytes, length);
        else if (length < MAX_BYTES) bytes[length++] = byte;
      }
    } catch (error) {
      bytes.fill(0);
      throw error;
    } finally {
      piece.fill(0);
    }
  }
  bytes.fill(0);
  throw new ClientError('interrupted');
}

function taken(bytes: Buffer, length: number): Uint8Array {
  if (length > 0) return bytes.subarray(0, length);
  throw new ClientError('passphrase_needed', 'The passphrase is empty.');
}

/** Where the last character of UTF-8 begins. */
function before(bytes: Buffer, length: number): number {
  let at = Math.max(0, length - 1);
  while (at > 0 && ((bytes[at] ?? 0) & 0xc0) === 0x80) at -= 1;
  bytes.fill(0, at, length);
  return at;
}
