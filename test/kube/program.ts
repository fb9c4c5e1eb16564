/** A server of Kubernetes' as a child process: on loopback, ended with the test. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

export class Program {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #name: string;
  #output = '';

  constructor(path: string, argv: readonly string[]) {
    this.#name = path.replace(/^.*\//u, '');
    // Nothing of the caller's environment: no proxy, no kubeconfig, no cloud's credentials.
    this.#child = spawn(path, argv, {
      env: { PATH: process.env['PATH'], HOME: '/nonexistent' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#ended = once(this.#child, 'close');
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.#output = `${this.#output}${chunk.toString('utf8')}`.slice(-200_000);
      });
    }
  }

  /** The last 200 kB of what it said. */
  get output(): string {
    return this.#output;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /**
   * Resolves once `holds` does; asks every 100 ms. What it throws counts as not yet.
   *
   * @throws when the program ends before, or `milliseconds` have passed
   */
  async until(what: string, holds: () => Promise<boolean>, milliseconds: number): Promise<void> {
    await untilHolds(`${this.#name} ${what}`, holds, milliseconds, () => {
      if (!this.running) throw new Error(`${this.#name} has ended:\n${this.#output.slice(-4_000)}`);
    });
  }

  /** Resolves when it has ended by itself. */
  async ended(): Promise<void> {
    await this.#ended;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM', milliseconds = 20_000): Promise<void> {
    if (!this.running) return;
    this.#child.kill(signal);
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), milliseconds);
    await this.#ended;
    clearTimeout(timer);
  }
}

/** @throws when it does not hold within `milliseconds`, or `check` throws */
export const untilHolds = async (
  what: string,
  holds: () => Promise<boolean>,
  milliseconds: number,
  check: () => void = () => undefined,
): Promise<void> => {
  const until = performance.now() + milliseconds;
  let last: unknown;
  for (;;) {
    check();
    try {
      if (await holds()) return;
    } catch (error) {
      last = error;
    }
    if (performance.now() > until) throw new Error(`not within time: ${what}`, { cause: last });
    await sleep(100);
  }
};
