/** PINs of ceremonies: in files that only their owner can read. */
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, fstatSync, fsyncSync, openSync } from 'node:fs';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { TwofoldError } from '../errors.ts';

const OTHERS = 0o077;

/** Throws `hsm_unavailable` when the file is missing, empty, or readable by others. */
export function readPin(path: string): string {
  const file = openSync(path, 'r');
  try {
    if ((fstatSync(file).mode & OTHERS) !== 0) {
      throw new TwofoldError('hsm_unavailable', `others may read ${path}: chmod 600 it`);
    }
    const pin = readFileSync(file, 'utf8').replace(/[\r\n]+$/, '');
    if (pin === '') throw new TwofoldError('hsm_unavailable', `${path} is empty`);
    return pin;
  } finally {
    closeSync(file);
  }
}

/** The PIN of a file, made first where there is none: on disk and synced before a token sees it. */
export function ensurePin(path: string): string {
  if (!existsSync(path)) {
    const temporary = `${path}.new`;
    const file = openSync(temporary, 'w', 0o600);
    try {
      // Hexadecimal: within every token's alphabet and length limits.
      writeFileSync(file, `${randomBytes(16).toString('hex')}\n`);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
    syncFolder(dirname(path));
  }
  return readPin(path);
}

function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
