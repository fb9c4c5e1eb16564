/** Processor time of a service's processes by /proc, the figure that swings least on a shared machine. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** USER_HZ of Linux on every architecture that Twofold runs on. */
const TICKS_PER_SECOND = 100;
/** Fields of /proc/PID/stat after the command, from `state` on (proc(5) counts from 1). */
const [PARENT, USER, SYSTEM, ENDED_USER, ENDED_SYSTEM] = [1, 11, 12, 13, 14] as const;

export interface CpuSeconds {
  readonly server: number;
  readonly database: number;
  /** This process, which makes the load. */
  readonly load: number;
}

/** Processes of the service with process id `server`, its workers included, and of its embedded database. */
export class ServiceProcesses {
  readonly #server: number;
  readonly #postmaster: number;

  constructor(server: number, dataDir: string) {
    this.#server = server;
    const file = join(dataDir, 'db/cluster/postmaster.pid');
    this.#postmaster = Number(readFileSync(file, 'utf8').split('\n')[0]);
  }

  cpu(): CpuSeconds {
    const { user, system } = process.cpuUsage();
    const sum = (pids: readonly number[]) => pids.reduce((total, pid) => total + seconds(pid), 0);
    return {
      server: sum(this.#servers()),
      database: sum([this.#postmaster, ...childrenOf(this.#postmaster)]),
      load: (user + system) / 1e6,
    };
  }

  /** Server (all its threads) on one core, database and load on another; back to all by `all`. */
  pin(placement: 'apart' | 'all', cores: number): void {
    const every = `0-${String(cores - 1)}`;
    const [server, others] = placement === 'apart' ? ['0', '1'] : [every, every];
    for (const pid of this.#servers()) taskset(server, pid);
    const database = [this.#postmaster, ...childrenOf(this.#postmaster)];
    for (const pid of [...database, process.pid]) taskset(others, pid);
  }

  #servers(): readonly number[] {
    const workers = childrenOf(this.#server).filter((pid) => pid !== this.#postmaster);
    return [this.#server, ...workers];
  }
}

const childrenOf = (parent: number): readonly number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => fields(pid)[PARENT] === String(parent));

function taskset(cores: string, pid: number): void {
  execFileSync('taskset', ['-a', '-c', '-p', cores, String(pid)], { stdio: 'ignore' });
}

function seconds(pid: number): number {
  const all = fields(pid);
  const ticks = [USER, SYSTEM, ENDED_USER, ENDED_SYSTEM].map((index) => Number(all[index] ?? 0));
  return ticks.reduce((sum, each) => sum + each, 0) / TICKS_PER_SECOND;
}

/** None when the process has ended. */
function fields(pid: number): readonly string[] {
  try {
    const stat = readFileSync(`/proc/${String(pid)}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch (error) {
    if (
      error instanceof Error &&
      'code' in error &&
      ['ENOENT', 'ESRCH'].includes(String(error.code))
    ) {
      return [];
    }
    throw error;
  }
}
