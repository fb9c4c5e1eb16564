/**
 * Folders that are dear to make, kept under `node_modules/.cache` and copied for each test file. What a
 * folder is made from is in its name: when that changes, another is made.
 */
import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
export const ROOT = join(import.meta.dirname, '..');
const CACHE = join(ROOT, 'node_modules/.cache');

/** Paths of the product's own sources. */
export const SOURCES: readonly string[] = readdirSync(join(ROOT, 'src'), {
  recursive: true,
  encoding: 'utf8',
})
  .filter((name) => /^(?!store.generated).*\.ts$/u.test(name))
  .sort()
  .map((name) => join(ROOT, 'src', name));

/** Contents of a folder, modes and all, into one that is there. */
const copyInto = (from: string, to: string) => run('cp', ['-a', `${from}/.`, to]);

export interface Template {
  readonly name: string;
  /** Files that decide what it holds. */
  readonly madeFrom: readonly string[];
  /** Fills an empty folder and leaves nothing running; a short path, as sockets need. */
  readonly fill: (folder: string) => Promise<void>;
}

const identity = (files: readonly string[]): string => {
  const hash = createHash('sha256');
  for (const file of files) hash.update(readFileSync(file));
  return hash.digest('hex').slice(0, 16);
};

/** Of several processes that make the same template, the first to rename wins. */
const make = async (kept: string, { fill }: Template): Promise<void> => {
  const folder = await mkdtemp(join(tmpdir(), 'twofold-template-'));
  const copy = `${kept}.new-${randomUUID()}`;
  try {
    await fill(folder);
    await mkdir(copy, { recursive: true, mode: 0o700 });
    await copyInto(folder, copy);
    await rename(copy, kept).catch((error: unknown) => {
      if (!existsSync(kept)) throw error;
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
    await rm(copy, { recursive: true, force: true });
  }
};

/** Fills an empty folder. */
export const copyTemplate = async (template: Template, folder: string): Promise<void> => {
  const kept = join(CACHE, template.name, identity(template.madeFrom));
  if (!existsSync(kept)) await make(kept, template);
  await copyInto(kept, folder);
};
