/**
 * The user PIN: read from a file that only its owner can read, and never offered twice to a token
 * that refused it, because real tokens lock after a few attempts.
 *
 * The mark of a refused PIN lies in the data folder, so that restarts and processes beside this one
 * see it. It holds no PIN: an scrypt value under a random salt, bound to module and token.
 */
import { createHmac, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';

const derive = promisify<Buffer, Buffer, number, { N: number; maxmem: number }, Buffer>(scrypt);

const OTHERS = 0o077;
const MARK_FILE = 'refused-pin.json';
/** About 60 ms a guess: short PINs must not be found from a mark in seconds. */
const SCRYPT = { N: 2 ** 15, maxmem: 64 * 1024 * 1024 } as const;

interface Mark {
  readonly salt: Buffer;
  readonly value: Buffer;
}

export class PinFile {
  readonly #path: string;
  readonly #stateDir: string;
  /** Module and token, so that a PIN refused by one token may be offered to another. */
  readonly #scope: string;
  readonly #processKey = randomBytes(32);
  #refused: Buffer | undefined;

  constructor(path: string, stateDir: string, scope: string) {
    this.#path = path;
    this.#stateDir = stateDir;
    this.#scope = scope;
  }

  /** The PIN's bytes, the caller's to wipe; `hsm_unavailable` says what is wrong with the file. */
  async read(): Promise<Uint8Array> {
    const file = await open(this.#path, 'r').catch((cause: unknown) => {
      throw unusable(`the PIN file ${this.#path} cannot be opened`, cause);
    });
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw unusable(`the PIN file ${this.#path} is not a file`);
      if ((stat.mode & OTHERS) !== 0) {
        throw unusable(`others may read the PIN file ${this.#path}: chmod 600 it`);
      }
      if (stat.uid !== 0 && stat.uid !== process.geteuid?.()) {
        throw unusable(`the PIN file ${this.#path} belongs to another user`);
      }
      return trimmed(await file.readFile(), this.#path);
    } finally {
      await file.close();
    }
  }

  async isRefused(pin: Uint8Array): Promise<boolean> {
    const seen = this.#fingerprint(pin);
    if (this.#refused?.equals(seen) === true) return true;
    const mark = await this.#readMark();
    if (mark === undefined) return false;
    const value = await this.#value(pin, mark.salt);
    const refused = value.length === mark.value.length && timingSafeEqual(value, mark.value);
    if (refused) this.#refused = seen;
    return refused;
  }

  /**
   * Durable before anyone can ask again: a restart after a refusal must not cost an attempt. Where the
   * mark cannot be written (that throws), this process at least remembers.
   */
  async markRefused(pin: Uint8Array): Promise<void> {
    this.#refused = this.#fingerprint(pin);
    const salt = randomBytes(16);
    const value = await this.#value(pin, salt);
    await mkdir(this.#stateDir, { recursive: true, mode: 0o700 });
    const text = JSON.stringify({ salt: salt.toString('hex'), value: value.toString('hex') });
    await writeDurably(join(this.#stateDir, MARK_FILE), text);
  }

  /** After a login: what was refused before is history. */
  async clearMark(): Promise<void> {
    this.#refused = undefined;
    await rm(join(this.#stateDir, MARK_FILE), { force: true });
  }

  /** What this process remembers of a refused PIN: under a key that is gone with it. */
  #fingerprint(pin: Uint8Array): Buffer {
    return createHmac('sha256', this.#processKey).update(pin).digest();
  }

  async #readMark(): Promise<Mark | undefined> {
    try {
      const text = await readFile(join(this.#stateDir, MARK_FILE), 'utf8');
      const { salt, value } = JSON.parse(text) as { salt: string; value: string };
      return { salt: Buffer.from(salt, 'hex'), value: Buffer.from(value, 'hex') };
    } catch {
      // Absent, or a half-written file of another hand: no refusal is known.
      return undefined;
    }
  }

  async #value(pin: Uint8Array, salt: Buffer): Promise<Buffer> {
    const input = Buffer.concat([Buffer.from(this.#scope), Buffer.from([0]), pin]);
    try {
      return await derive(input, salt, 32, SCRYPT);
    } finally {
      wipe(input);
    }
  }
}

/** Writes a file of mode 0600 so that it is there whole, or not at all, after a power cut. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.new`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncFolder(join(path, '..'));
}

export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function trimmed(content: Buffer, path: string): Uint8Array {
  try {
    let end = content.length;
    while (end > 0 && (content[end - 1] === 0x0a || content[end - 1] === 0x0d)) end -= 1;
    if (end === 0) throw unusable(`the PIN file ${path} is empty`);
    return Uint8Array.from(content.subarray(0, end));
  } finally {
    wipe(content);
  }
}

function unusable(detail: string, cause?: unknown): TwofoldError {
  return new TwofoldError('hsm_unavailable', detail, { cause });
}
