/**
 * What a witness has cosigned, in a folder of its own: for each log, files `<hash of its name>.<number>`
 * that hold a checkpoint each, of which the highest number is in force.
 *
 * The next number is taken by link(2), which fails where it is taken: so of several processes that
 * cosign at once, one goes on and the others look again. The content is durable before it has its name,
 * and the name before the answer. Files of lower numbers go only when the higher one is durable; who
 * took a number that had been removed finds a higher one there afterwards, and gives its own up.
 */
import { createHash, randomUUID } from 'node:crypto';
import { link, mkdir, open, readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { TwofoldError } from '../../errors.ts';
import type { Checkpoint } from '../notes.ts';
import { formatCheckpoint, parseCheckpoint } from '../tree/checkpoint.ts';
import { EMPTY_ROOT } from '../tree/hashes.ts';

export interface WitnessedState {
  /** 0 before anything was cosigned. */
  readonly number: number;
  readonly size: number;
  readonly root: Uint8Array;
}

const NOTHING: WitnessedState = {
  number: 0,
  size: 0,
  root: EMPTY_ROOT,
};
/** Digits of a number: it stays in order as a name. */
const DIGITS = 15;

const prefixOf = (origin: string): string => createHash('sha256').update(origin).digest('hex');

export class WitnessStates {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async open(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    // What a kill left before it had its name.
    for (const name of await readdir(this.#folder)) {
      if (name.endsWith('.new')) await rm(join(this.#folder, name), { force: true });
    }
  }

  /** @throws TwofoldError integrity_failed for a file that is none of ours */
  async of(origin: string): Promise<WitnessedState> {
    for (;;) {
      const name = (await this.#names(origin)).at(-1);
      if (name === undefined) return NOTHING;
      const text = await readFile(join(this.#folder, name), 'utf8').catch((error: unknown) => {
        // Another process went on meanwhile, and removed it.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
        throw error;
      });
      if (text !== null) return stateFrom(name, text, origin);
    }
  }

  /**
   * Takes the place of `former`, durably; false where something else has taken it already.
   * @throws what the file system throws: then it may or may not be in force, and nothing was cosigned
   */
  async advance(former: WitnessedState, checkpoint: Checkpoint): Promise<boolean> {
    const name = this.#name(checkpoint.origin, former.number + 1);
    const file = join(this.#folder, name);
    const temporary = `${file}.${randomUUID()}.new`;
    try {
      await writeDurably(temporary, formatCheckpoint(checkpoint));
      await link(temporary, file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw error;
    } finally {
      await rm(temporary, { force: true });
    }
    await syncFolder(this.#folder);
    const names = await this.#names(checkpoint.origin);
    if (names.at(-1) !== name) {
      await rm(file, { force: true });
      return false;
    }
    for (const older of names.slice(0, -1)) await rm(join(this.#folder, older), { force: true });
    return true;
  }

  /** An operator's word that the log was rolled back: what was cosigned before counts no more. */
  async forget(origin: string): Promise<void> {
    for (const name of await this.#names(origin)) await rm(join(this.#folder, name));
    await syncFolder(this.#folder);
  }

  #name(origin: string, number: number): string {
    return `${prefixOf(origin)}.${String(number).padStart(DIGITS, '0')}`;
  }

  async #names(origin: string): Promise<string[]> {
    const prefix = `${prefixOf(origin)}.`;
    const all = await readdir(this.#folder);
    return all.filter((name) => name.startsWith(prefix) && !name.endsWith('.new')).toSorted();
  }
}

const stateFrom = (name: string, text: string, origin: string): WitnessedState => {
  try {
    const { origin: of, size, root } = parseCheckpoint(text);
    if (of === origin) return { number: Number(name.split('.')[1]), size, root };
  } catch (error) {
    if (!TwofoldError.is(error)) throw error;
  }
  throw new TwofoldError('integrity_failed', `The witness's file ${name} was altered.`);
};

const writeDurably = async (file: string, text: string): Promise<void> => {
  const handle = await open(file, 'wx', 0o600);
  try {
    await handle.writeFile(text, 'utf8');
    await handle.sync();
  } finally {
    await handle.close();
  }
};

const syncFolder = async (folder: string): Promise<void> => {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};
