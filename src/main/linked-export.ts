/** An export that goes on from another without a copy of it, and without a change to it. */
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

import { TwofoldError } from '../errors.ts';

/** What an export that was interrupted has beside a complete one. Nothing may be written through a link of that name. */
const UNFINISHED = /\.(?:partial|next)$|^export\.plan\.json$/u;

/**
 * Makes links in `to` to the files of the export `from`. Whoever exports into `to` puts files in the place of links and
 * removes links, never what they point to.
 * @throws TwofoldError invalid_value where `from` is no complete export
 */
export function linkExport(from: string, to: string): void {
  if (!existsSync(join(from, 'export.json'))) {
    throw new TwofoldError('invalid_value', `${from} is no complete export of the log.`);
  }
  const root = resolve(from);
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (entry.isDirectory() || UNFINISHED.test(entry.name)) continue;
    const path = join(entry.parentPath, entry.name);
    const link = join(to, relative(root, path));
    mkdirSync(dirname(link), { recursive: true, mode: 0o700 });
    symlinkSync(path, link);
  }
}
