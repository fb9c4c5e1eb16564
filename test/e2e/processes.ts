/** The processes of one data folder, whoever started them. */
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** Empty for what has ended or is another user's. */
export const ofProcess = (pid: number, file: 'cmdline' | 'environ' | 'limits' | 'stat'): string => {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return '';
  }
};

const workingFolder = (pid: number): string => {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return '';
  }
};

/** Whatever works in the folder, or names it in its arguments or environment; zombies are not listed. */
export const processesOf = (dataDir: string): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/u.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) =>
      [workingFolder(pid), ofProcess(pid, 'cmdline'), ofProcess(pid, 'environ')].some((text) =>
        text.includes(dataDir),
      ),
    );

/** kill -9 of all of them, and of what they still start meanwhile. */
export const killAll = async (dataDir: string): Promise<void> => {
  for (;;) {
    const pids = processesOf(dataDir);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended meanwhile.
      }
    }
    await sleep(5);
  }
};

/** What is still there of them after `milliseconds`; ends early when nothing is. */
export const leftOf = async (dataDir: string, milliseconds = 5_000): Promise<string[]> => {
  const until = performance.now() + milliseconds;
  for (;;) {
    const left = processesOf(dataDir);
    if (left.length === 0) return [];
    if (performance.now() > until) return left.map((pid) => `${pid} ${ofProcess(pid, 'cmdline')}`);
    await sleep(20);
  }
};

/** A process and its children, as a database server has them. */
export function withChildren(parent: number): readonly number[] {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/u.test(name))
    .filter((pid) => {
      const stat = ofProcess(Number(pid), 'stat');
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent;
    });
  return [parent, ...children.map(Number)];
}
