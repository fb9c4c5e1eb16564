/** Starting and killing a process that owns an embedded database. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

export interface Child {
  readonly process: ChildProcess;
  /** Resolves when the database is ready, with its process id and port. */
  readonly ready: Promise<{ readonly pid: number; readonly port: number }>;
  /** kill -9 and wait for the end. */
  kill(): Promise<void>;
}

export const startChild = (dataDir: string): Child => {
  const script = join(import.meta.dirname, 'embedded-child.ts');
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', script, dataDir],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { PATH: '/usr/bin:/bin' },
    },
  );
  const ended = once(child, 'exit');
  const ready = (async () => {
    const [line] = (await Promise.race([once(child.stdout, 'data'), ended])) as [unknown];
    return JSON.parse(String(line)) as { pid: number; port: number };
  })();
  ready.catch(() => undefined);
  return {
    process: child,
    ready,
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
};

/** Processes that work inside `folder`. */
export const processesIn = (folder: string): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/u.test(name))
    .filter((name) => {
      try {
        return readlinkSync(`/proc/${name}/cwd`).startsWith(`${folder}/`);
      } catch {
        return false;
      }
    })
    .map(Number);

/** A small seeded generator (mulberry32), so that a failing run can be repeated. */
export const seeded = (seed: number): (() => number) => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
};
