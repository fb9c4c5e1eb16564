/**
 * The lock of a socket's path: a file beside it, which whoever serves the path holds for as long as it
 * lives. As for the data folder it is flock(2) on an open file of ours, taken by `flock` of util-linux on
 * a descriptor that it inherits; the kernel drops it with the process, kill -9 included.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';

import { TwofoldError } from '../errors.ts';

const HELD = 75;

export interface SocketLock {
  release(): void;
}

async function take(descriptor: number, wait: readonly string[], signal: AbortSignal) {
  const child = spawn('flock', [...wait, '-E', String(HELD), '3'], {
    stdio: ['ignore', 'ignore', 'ignore', descriptor],
    signal,
  });
  const [status] = (await once(child, 'exit')) as [number | null];
  return status;
}

/**
 * Waits for as long as another process holds it; `onWaiting` is told once that one does.
 * @throws TwofoldError invalid_value when the lock cannot be made, or `signal` aborted
 */
export async function lockSocket(
  path: string,
  onWaiting: () => void,
  signal: AbortSignal,
): Promise<SocketLock> {
  const file = `${path}.lock`;
  const failed = (cause?: unknown) =>
    new TwofoldError('invalid_value', `The lock ${file} cannot be taken.`, { cause });
  let descriptor: number;
  try {
    descriptor = openSync(file, 'a', 0o600);
  } catch (error) {
    throw failed(error);
  }
  try {
    let status = await take(descriptor, ['-n'], signal);
    if (status === HELD) {
      onWaiting();
      status = await take(descriptor, [], signal);
    }
    if (status !== 0) throw failed(new Error(`flock ended with ${String(status)}`));
  } catch (error) {
    closeSync(descriptor);
    throw TwofoldError.is(error) ? error : failed(error);
  }
  let held = true;
  return {
    release: () => {
      if (held) closeSync(descriptor);
      held = false;
    },
  };
}
