/**
 * Files that change under the running service: looked at once a second, and at once when asked to.
 *
 * Whoever writes them may rename, switch a symbolic link, or write in place, one file after the other.
 * So what was found is taken only when it has stood still from one look to the next and while it was
 * read; what cannot be used leaves in force what was there, is said once, and is tried again. However
 * often files change, there is one look at a time and one reading a second at most.
 */
import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import { TwofoldError } from '../errors.ts';

export interface Watched {
  /** Of a closed set: a label of metrics. */
  readonly name: string;
  /** Followed through symbolic links. */
  readonly paths: readonly string[];
  /**
   * Reads and checks what the files hold now. Resolves with what puts it in force, which is called only
   * if the files did not change meanwhile; rejects with what is wrong with them, quoting no secret.
   */
  readonly read: () => Promise<() => void> | (() => void);
}

export interface WatchLog {
  info(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

interface Entry extends Watched {
  /** How the files looked when they were last taken. */
  taken: string | undefined;
  /** How they looked at the last look. */
  seen: string | undefined;
  refusal: string | undefined;
  /** Looks to let pass before a refused file that did not change is tried again. */
  wait: number;
  pause: number;
}

const LOOK_MS = 1_000;
/** Longest pause between attempts at a refused file that does not change, in looks. */
const MAX_PAUSE = 16;
/** A torn reading on request is repeated so often; the looks go on in any case. */
const ATTEMPTS = 5;
const SETTLE_MS = 50;
/** Bytes: a certificate chain with its authorities is a small part of it. */
const MAX_FILE_BYTES = 1_048_576n;

export class FileWatch {
  readonly #log: WatchLog;
  readonly #entries: Entry[] = [];
  readonly #closing = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #again: Promise<void> | undefined;
  #loop: Promise<void> = Promise.resolve();

  constructor(log: WatchLog) {
    this.#log = log;
  }

  add(watched: Watched): void {
    const fresh = { taken: undefined, seen: undefined, refusal: undefined, wait: 0, pause: 1 };
    this.#entries.push({ ...watched, ...fresh });
  }

  /** Names of what cannot be used as it stands in its files now. */
  get refused(): readonly string[] {
    return this.#entries.filter(({ refusal }) => refusal !== undefined).map(({ name }) => name);
  }

  get names(): readonly string[] {
    return this.#entries.map(({ name }) => name);
  }

  /** Looks once every `everyMs` until closed. */
  start(everyMs = LOOK_MS): void {
    this.#loop = this.#looks(everyMs);
  }

  /**
   * Reads every file now, waiting for nothing to stand still between two looks. Calls that come while one
   * waits for its turn share its reading. Never rejects.
   */
  reload(): Promise<void> {
    this.#again ??= this.#inTurn(async () => {
      this.#again = undefined;
      for (const entry of this.#entries) await this.#takeNow(entry);
    });
    return this.#again;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
    await this.#running;
  }

  async #looks(everyMs: number): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await this.#inTurn(async () => {
        for (const entry of this.#entries) await this.#look(entry);
      });
      await sleep(everyMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  #inTurn(act: () => Promise<void>): Promise<void> {
    this.#running = this.#running.then(act);
    return this.#running;
  }

  async #look(entry: Entry): Promise<void> {
    const now = await appearance(entry.paths);
    const still = now === entry.seen;
    entry.seen = now;
    if (!still) {
      entry.pause = 1;
      entry.wait = 0;
      return;
    }
    if (now === entry.taken) return;
    if (entry.wait > 0) {
      entry.wait -= 1;
      return;
    }
    await this.#take(entry, now);
    if (entry.refusal === undefined) return;
    entry.wait = entry.pause;
    entry.pause = Math.min(entry.pause * 2, MAX_PAUSE);
  }

  async #takeNow(entry: Entry): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const now = await appearance(entry.paths);
      entry.seen = now;
      if (await this.#take(entry, now)) return;
      await sleep(SETTLE_MS);
    }
  }

  /** False when the files changed while they were read, which says nothing of them. */
  async #take(entry: Entry, now: string): Promise<boolean> {
    let enforce: (() => void) | undefined;
    let refusal: unknown;
    try {
      await assertSmallFiles(entry.paths);
      enforce = await entry.read();
    } catch (error) {
      refusal = error;
    }
    if ((await appearance(entry.paths)) !== now) return false;
    try {
      if (enforce === undefined) throw refusal;
      enforce();
      entry.taken = now;
      this.#accepted(entry);
    } catch (error) {
      entry.taken = undefined;
      this.#refused(entry, error);
    }
    return true;
  }

  #accepted(entry: Entry): void {
    if (entry.refusal === undefined) return;
    entry.refusal = undefined;
    this.#log.info({ files: entry.name }, 'files that were refused are in use');
  }

  /** What is found refused again for the same reason says nothing. */
  #refused(entry: Entry, err: unknown): void {
    const refusal = String(err);
    if (refusal === entry.refusal) return;
    entry.refusal = refusal;
    this.#log.error({ files: entry.name, err }, 'changed files are not used; the former stay');
  }
}

/** Equal as long as no file was written, replaced or taken away. */
async function appearance(paths: readonly string[]): Promise<string> {
  const each = paths.map(async (path) => {
    try {
      const { dev, ino, size, mode, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
      return [dev, ino, size, mode, mtimeNs, ctimeNs].join(' ');
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? 'unreadable';
    }
  });
  return (await Promise.all(each)).join('\n');
}

/** What is read afterwards would wait for a pipe's writer, or fill the memory. */
async function assertSmallFiles(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    const found = await stat(path, { bigint: true }).catch((cause: unknown) => {
      throw new TwofoldError('invalid_value', `${path} cannot be read`, { cause });
    });
    const usable = found.isFile() && found.size <= MAX_FILE_BYTES;
    if (!usable) throw new TwofoldError('invalid_value', `${path} is not a file of 1 MiB at most`);
  }
}
