/**
 * One offer of a PIN at a time among the processes of a data folder: workers that lose a token log in
 * again at the same moment, and a PIN that was changed meanwhile must not cost an attempt of each.
 *
 * By flock(2) on a file beside the marks, as the data folder's own lock: the kernel drops it with a
 * process that dies. Where the `flock` program is missing, or a login hangs, the marks alone bound
 * what is offered.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

/** In the state folder; it stays there. */
export const PIN_LOCK = 'pin.lock';

/** Longer than a login takes; one that hangs is not waited for. */
const WAIT_S = 10;

export async function inTurn<Result>(
  stateDir: string,
  act: () => Promise<Result>,
): Promise<Result> {
  // A folder that cannot be written has no marks either, which whoever offers says; one that is not
  // there is no running service's.
  const file = await open(join(stateDir, PIN_LOCK), 'a', 0o600).catch(() => undefined);
  try {
    if (file !== undefined) await lock(file);
    return await act();
  } finally {
    await file?.close();
  }
}

async function lock({ fd }: FileHandle): Promise<void> {
  const stdio = ['ignore', 'ignore', 'ignore', fd] as const;
  const child = spawn('flock', ['-w', String(WAIT_S), '3'], { stdio: [...stdio] });
  await once(child, 'exit').catch(() => undefined);
}
