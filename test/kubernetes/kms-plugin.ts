/** `twofold kms-plugin …` as its own process, as an operator runs it. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { eventually } from '../store/eventually.ts';

const LAUNCH = join(import.meta.dirname, '../../scripts/launch');

export class KmsPlugin {
  output = '';
  readonly child: ChildProcess;

  constructor(home: string, argv: readonly string[]) {
    this.child = spawn('/bin/sh', [LAUNCH, 'kms-plugin', ...argv], {
      env: { ...COMMAND_ENVIRONMENT, HOME: home },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (chunk: Buffer) => (this.output += chunk.toString('utf8')));
    }
  }

  /** @throws where it ended before it said so */
  async until(text: string): Promise<void> {
    await eventually(() => {
      if (this.child.exitCode !== null) throw new Error(this.output);
      return Promise.resolve(this.output.includes(text));
    }, 20_000);
  }

  /** Its exit code; null where a signal ended it. */
  async ended(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null)
      await once(this.child, 'close');
    return this.child.exitCode;
  }

  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.child.kill(signal);
    return this.ended();
  }
}
