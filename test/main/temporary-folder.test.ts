/** What a killed command leaves is removed by the next one, and nothing else is. */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

const child = join(import.meta.dirname, 'temporary-child.ts');
let folder: string;
let children: ChildProcess[] = [];

const start = async (): Promise<{ child: ChildProcess; at: string }> => {
  const started = fork(child, { execArgv: [], env: { ...process.env, TMPDIR: folder } });
  children.push(started);
  const [at] = (await once(started, 'message')) as [string];
  return { child: started, at };
};
const kill = async (started: ChildProcess): Promise<void> => {
  const ended = once(started, 'exit');
  started.kill('SIGKILL');
  await ended;
};
const end = async (started: ChildProcess): Promise<void> => {
  const ended = once(started, 'exit');
  started.send('end');
  await ended;
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'temporary-folder-'));
});
afterEach(async () => {
  await Promise.all(
    children.filter(({ exitCode, signalCode }) => (exitCode ?? signalCode) === null).map(kill),
  );
  children = [];
  rmSync(folder, { recursive: true });
});

describe('a temporary folder', () => {
  it('goes with its command, or with the next one after a kill; that of one that lives stays', async () => {
    const living = await start();
    const killed = await start();
    await kill(killed.child);
    expect(existsSync(killed.at)).toBe(true);
    const next = await start();
    expect([living, killed, next].map(({ at }) => existsSync(at))).toEqual([true, false, true]);
    await end(next.child);
    await end(living.child);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('is not taken from a command that is about to lock it, nor by way of a link', async () => {
    const made = join(folder, 'twofold-test-new-abcdef');
    const old = join(folder, 'twofold-test-new-ghijkl');
    const other = join(folder, 'other');
    for (const path of [made, old, other]) mkdirSync(path, { mode: 0o700 });
    const hours = new Date(Date.now() - 7_200_000);
    utimesSync(old, hours, hours);
    symlinkSync(other, join(folder, 'twofold-test-link'));
    const { child: started } = await start();
    await end(started);
    expect(readdirSync(folder).toSorted()).toEqual([
      'other',
      'twofold-test-link',
      'twofold-test-new-abcdef',
    ]);
  });

  it('is not one that somebody gave such a name', async () => {
    const own = join(folder, 'twofold-test-2026-11');
    mkdirSync(join(own, 'tiles'), { recursive: true, mode: 0o700 });
    const { child: started } = await start();
    await end(started);
    expect(readdirSync(own)).toEqual(['tiles']);
  });
});
