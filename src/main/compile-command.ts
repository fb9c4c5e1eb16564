/**
 * `twofold compile [--uid N]`: loads what commands and their threads load, so that Node keeps all of it
 * compiled in the folder that `scripts/launch` names (NODE_COMPILE_CACHE).
 *
 * Node takes an entry only for the same source. Without one, a thread strips the types itself, and the
 * stripper takes some 14 MB in each thread for as long as that lives.
 */
import { chmodSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { flushCompileCache, getCompileCacheDir } from 'node:module';
import { basename, join } from 'node:path';
import { one, parseFlags, requireNothingMore } from '../cli/arguments.ts';
import { TwofoldError } from '../errors.ts';

/** What is loaded only when it is needed, or by a thread of its own. */
const LATER = [
  () => import('../access/validation-worker.ts'),
  () => import('../crypto/portable-worker.ts'),
  () => import('../hsm/worker.ts'),
  () => import('../kubernetes/server.ts'),
  async () => (await import('../store/prisma.ts')).loadPrisma(),
];
/** How Node ends the folder's name: each user has one of their own. */
const OF_USER = /-\d+$/u;

/**
 * `commands` load one each. `--uid` lets another user read this folder too, where root sets up what a user
 * without rights runs. Prints the folder.
 *
 * @throws TwofoldError `invalid_value` where Node keeps nothing, or for a uid that is none
 */
export async function compileCommand(
  commands: readonly (() => Promise<unknown>)[],
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const flags = parseFlags(argv, { uid: 'value' });
  requireNothingMore(flags);
  const uid = one(flags, 'uid');
  if (uid !== undefined && !/^(0|[1-9]\d{0,9})$/u.test(uid)) {
    throw new TwofoldError('invalid_value', '--uid is the number of a user.');
  }
  const folder = getCompileCacheDir();
  if (folder === undefined) {
    const detail = 'Node keeps nothing compiled here; start this by scripts/twofold.';
    throw new TwofoldError('invalid_value', detail);
  }
  for (const load of [...commands, ...LATER]) await load();
  flushCompileCache();
  if (uid !== undefined) shareWith(uid, folder);
  print(JSON.stringify({ folder }));
  return 0;
}

function shareWith(uid: string, folder: string): void {
  const theirs = folder.replace(OF_USER, `-${uid}`);
  if (theirs === folder) return;
  rmSync(theirs, { recursive: true, force: true });
  symlinkSync(basename(folder), theirs);
  // No secrets: what stands in src and node_modules, in another form.
  chmodSync(folder, 0o755);
  for (const name of readdirSync(folder)) {
    try {
      chmodSync(join(folder, name), 0o644);
    } catch (error) {
      // Node writes an entry under another name first; that of a process that ends now is gone.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}
