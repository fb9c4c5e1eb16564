/** PINs of a token that a ceremony initialises; those of the development token are made by it. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { wipe } from '../crypto/secret.ts';
import { writeDurably } from './durable.ts';
import { pinText, readPin } from './pin.ts';

/** The PIN of a file, made first where there is none: on disk and synced before a token sees it. */
export async function ensurePin(path: string): Promise<string> {
  // Hexadecimal: within every token's alphabet and length limits.
  if (!existsSync(path)) await writeDurably(path, `${randomBytes(16).toString('hex')}\n`);
  return pinOf(path);
}

/** The PIN of a file that is there, as the text that the binding takes. */
export async function pinOf(path: string): Promise<string> {
  const pin = await readPin(path);
  try {
    return pinText(pin);
  } finally {
    wipe(pin);
  }
}
