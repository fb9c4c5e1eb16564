/** An export that goes on from another without a copy of it, and without a change to it. */
import { existsSync, mkdirSync, readdirSync, realpathSync, statSync, symlinkSync } from 'node:fs';
import type { Dirent } from 'node:fs';
import { join, resolve } from 'node:path';

import { TwofoldError } from '../errors.ts';

/** What an export that was interrupted has beside a complete one. Nothing may be written through a link of that name. */
const UNFINISHED = /\.(?:partial|next)$|^export\.plan\.json$/u;

/**
 * Makes links in `to` to the files of the export `from`, and folders of its own for the folders there. Whoever exports
 * into `to` puts files in the place of links and removes links, never what they point to.
 * @throws TwofoldError invalid_value where `from` is no complete export, or has a link to a folder that the link is in
 * @throws Error of the system: EACCES, ENOSPC, …
 */
export function linkExport(from: string, to: string): void {
  if (!existsSync(join(from, 'export.json'))) {
    throw new TwofoldError('invalid_value', `${from} is no complete export of the log.`);
  }
  linkFolder(resolve(from), to, []);
}

/** @param within real paths of the folders that `from` is in */
function linkFolder(from: string, to: string, within: readonly string[]): void {
  const real = realpathSync(from);
  if (within.includes(real)) {
    throw new TwofoldError('invalid_value', `${from} is a link to a folder that it is in.`);
  }
  mkdirSync(to, { recursive: true, mode: 0o700 });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    if (UNFINISHED.test(entry.name)) continue;
    const [path, link] = [join(from, entry.name), join(to, entry.name)];
    if (isFolder(entry, path)) linkFolder(path, link, [...within, real]);
    else symlinkSync(path, link);
  }
}

/** Also one that a link names (tiles on another disk): through a link to it files would go into the export itself. */
const isFolder = (entry: Dirent, path: string): boolean =>
  entry.isDirectory() ||
  (entry.isSymbolicLink() && statSync(path, { throwIfNoEntry: false })?.isDirectory() === true);
