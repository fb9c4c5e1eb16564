/**
 * A PIN: read from a file that only its owner can read, and never offered again to a token that refused
 * it, because real tokens lock after a few attempts.
 *
 * The mark of an attempt is durable before the token sees the PIN and goes away when the token takes
 * it, so that restarts and processes beside this one know of a refusal. A process that is killed in
 * between leaves a mark of unknown outcome: one more attempt is made, then none, so that neither a kill
 * at the wrong moment nor a loop of crashes can lock the token. The mark holds no PIN: an scrypt
 * value under a random salt, bound to module, token and role.
 */
import { isUtf8 } from 'node:buffer';
import { createHmac, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { writeDurably } from './durable.ts';
import { inTurn } from './pin-turn.ts';
import type { TokenSelector } from './protocol.ts';

const derive = promisify<Buffer, Buffer, number, { N: number; maxmem: number }, Buffer>(scrypt);

const OTHERS = 0o077;
/** About 60 ms a guess: short PINs must not be found from a mark in seconds. */
const SCRYPT = { N: 2 ** 15, maxmem: 64 * 1024 * 1024 } as const;
/** Attempts of unknown outcome; a refusal counts as all of them. */
const ATTEMPTS = 2;

/** Whose PIN it is: each role has its own mark. */
export type PinRole = 'user' | 'so';

const MARK_FILES: Readonly<Record<PinRole, string>> = {
  user: 'refused-pin.json',
  so: 'refused-so-pin.json',
};

interface Mark {
  readonly salt: Buffer;
  readonly value: Buffer;
  readonly attempts: number;
}

/** Module and token of a PIN, so that one refused by one token may be offered to another. */
export function pinScope(module: string, tokenSelector: TokenSelector): string {
  return `${module}\n${JSON.stringify(tokenSelector)}`;
}

/** Ends with `hsm_unavailable`: the token refused this PIN before, so it was not offered. */
export class PinRefused extends TwofoldError {}

export class PinFile {
  readonly #path: string;
  readonly #stateDir: string;
  readonly #scope: string;
  readonly #role: PinRole;
  readonly #mark: string;
  readonly #processKey = randomBytes(32);
  #refused: Buffer | undefined;
  /** The last comparison with a mark, which costs an scrypt. */
  #compared: { readonly salt: Buffer; readonly seen: Buffer; readonly same: boolean } | undefined;

  /** `stateDir` is the folder of the mark, made if need be; `scope` comes from `pinScope`. */
  constructor(path: string, stateDir: string, scope: string, role: PinRole = 'user') {
    this.#path = path;
    this.#stateDir = stateDir;
    this.#scope = scope;
    this.#role = role;
    this.#mark = join(stateDir, MARK_FILES[role]);
  }

  /** The PIN's bytes, the caller's to wipe; `hsm_unavailable` says what is wrong with the file. */
  read(): Promise<Uint8Array> {
    return readPin(this.#path);
  }

  async isRefused(pin: Uint8Array): Promise<boolean> {
    if (this.#refused?.equals(this.#fingerprint(pin)) === true) return true;
    return ((await this.#markOf(pin))?.attempts ?? 0) >= ATTEMPTS;
  }

  /**
   * Offers the PIN by `login`, with the mark there first. `refuses` tells a refusal of the PIN from
   * any other failure, which leaves no mark. Where no mark can be written, `onUnmarked` decides: it
   * may throw, or the attempt is made and this process alone remembers.
   *
   * @throws PinRefused without an attempt when the PIN was refused before
   */
  offer<Result>(
    pin: Uint8Array,
    login: () => Promise<Result> | Result,
    when: { refuses: (error: unknown) => boolean; onUnmarked: OnUnmarked },
  ): Promise<Result> {
    return inTurn(this.#stateDir, () => this.#offer(pin, login, when));
  }

  async #offer<Result>(
    pin: Uint8Array,
    login: () => Promise<Result> | Result,
    { refuses, onUnmarked }: { refuses: (error: unknown) => boolean; onUnmarked: OnUnmarked },
  ): Promise<Result> {
    if (await this.isRefused(pin)) throw new PinRefused('hsm_unavailable', this.#refusal());
    const seen = this.#fingerprint(pin);
    const mark = await this.#begin(pin).catch(onUnmarked);
    try {
      const result = await login();
      this.#refused = undefined;
      await this.#clear();
      return result;
    } catch (error) {
      if (!refuses(error)) {
        await this.#clear();
        throw error;
      }
      this.#refused = seen;
      if (mark !== undefined) await this.#write({ ...mark, attempts: ATTEMPTS }).catch(onUnmarked);
      throw error;
    }
  }

  #refusal(): string {
    const whose = this.#role === 'so' ? 'security officer PIN' : 'user PIN';
    return `the token refused the ${whose} of ${this.#path}; it is not tried again`;
  }

  /** One attempt more of this PIN, or the first. */
  async #begin(pin: Uint8Array): Promise<Mark> {
    const before = await this.#markOf(pin);
    const salt = before?.salt ?? randomBytes(16);
    const value = before?.value ?? (await this.#value(pin, salt));
    const mark = { salt, value, attempts: (before?.attempts ?? 0) + 1 };
    await mkdir(this.#stateDir, { recursive: true, mode: 0o700 });
    await this.#write(mark);
    return mark;
  }

  #write({ salt, value, attempts }: Mark): Promise<void> {
    const [saltText, valueText] = [salt.toString('hex'), value.toString('hex')];
    const text = JSON.stringify({ salt: saltText, value: valueText, attempts });
    return writeDurably(this.#mark, text);
  }

  /** A mark that stays by mistake would only cost an attempt at the next refusal. */
  #clear(): Promise<void> {
    return rm(this.#mark, { force: true }).catch(() => undefined);
  }

  /** What this process remembers of a refused PIN: under a key that is gone with it. */
  #fingerprint(pin: Uint8Array): Buffer {
    return createHmac('sha256', this.#processKey).update(pin).digest();
  }

  /** The mark, where it is of this PIN. */
  async #markOf(pin: Uint8Array): Promise<Mark | undefined> {
    const mark = await this.#readMark();
    if (mark === undefined) return undefined;
    const seen = this.#fingerprint(pin);
    const known = this.#compared;
    if (known?.salt.equals(mark.salt) !== true || !known.seen.equals(seen)) {
      const value = await this.#value(pin, mark.salt);
      const same = value.length === mark.value.length && timingSafeEqual(value, mark.value);
      this.#compared = { salt: mark.salt, seen, same };
    }
    return this.#compared?.same === true ? mark : undefined;
  }

  async #readMark(): Promise<Mark | undefined> {
    try {
      const { salt, value, attempts } = JSON.parse(await readFile(this.#mark, 'utf8')) as {
        salt: string;
        value: string;
        attempts: number;
      };
      return { salt: Buffer.from(salt, 'hex'), value: Buffer.from(value, 'hex'), attempts };
    } catch {
      // Absent, or a half-written file of another hand: no refusal is known.
      return undefined;
    }
  }

  async #value(pin: Uint8Array, salt: Buffer): Promise<Buffer> {
    const scope = Buffer.from(`${this.#role}\n${this.#scope}`);
    const input = Buffer.concat([scope, Buffer.from([0]), pin]);
    try {
      return await derive(input, salt, 32, SCRYPT);
    } finally {
      wipe(input);
    }
  }
}

type OnUnmarked = (cause: unknown) => undefined;

/**
 * The PIN of a file without its line end, the caller's to wipe: bytes of valid UTF-8, because bindings
 * take a text and an altered PIN would cost an attempt.
 *
 * @throws TwofoldError `hsm_unavailable` that says what is wrong with the file
 */
export async function readPin(path: string): Promise<Uint8Array> {
  // Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK;
  const file = await open(path, flags).catch((cause: unknown) => {
    throw unusable(`the PIN file ${path} cannot be opened`, cause);
  });
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw unusable(`the PIN file ${path} is not a file`);
    if ((stat.mode & OTHERS) !== 0) {
      throw unusable(`others may read the PIN file ${path}: chmod 600 it`);
    }
    if (stat.uid !== 0 && stat.uid !== process.geteuid?.()) {
      throw unusable(`the PIN file ${path} belongs to another user`);
    }
    return trimmed(await file.readFile(), path);
  } finally {
    await file.close();
  }
}

/** The text of a PIN for a binding that takes nothing else; it cannot be wiped. */
export function pinText(pin: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(pin);
}

function trimmed(content: Buffer, path: string): Uint8Array {
  try {
    let end = content.length;
    while (end > 0 && (content[end - 1] === 0x0a || content[end - 1] === 0x0d)) end -= 1;
    if (end === 0) throw unusable(`the PIN file ${path} is empty`);
    const pin = content.subarray(0, end);
    if (!isUtf8(pin)) throw unusable(`the PIN file ${path} is not UTF-8 text`);
    return Uint8Array.from(pin);
  } finally {
    wipe(content);
  }
}

function unusable(detail: string, cause?: unknown): TwofoldError {
  return new TwofoldError('hsm_unavailable', detail, { cause });
}
