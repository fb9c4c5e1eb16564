/**
 * Standard output of a command. A shell believes an exit code of 0: what did not reach the file or pipe
 * that it was meant for is a failure of the command, and a token that nobody got is none.
 */
import type { Writable } from 'node:stream';

import { TwofoldError } from '../errors.ts';

/** As a shell sees a program that a signal ended which nobody reads any more (128 + SIGPIPE). */
const NOBODY_READS = 141;
const FULL: readonly string[] = ['ENOSPC', 'EDQUOT', 'EFBIG'];

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? 'unknown error';

export class Output {
  readonly #stream: Writable;
  #lost: unknown;
  #used = false;

  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on('error', (error) => (this.#lost ??= error));
  }

  print(line: string): void {
    this.#used = true;
    this.#stream.write(`${line}\n`);
  }

  /**
   * Resolves once the bytes are taken, so that what is endless ends with its reader.
   * @throws Error of the system: EPIPE, ENOSPC, …
   */
  write(bytes: string | Uint8Array): Promise<void> {
    this.#used = true;
    return new Promise((resolve, reject) => {
      this.#stream.write(bytes, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  }

  /**
   * The command's exit code once everything is written: `wanted`, or 141 where the reader has gone, or 1.
   * @param complain is told what could not be written, and nothing of a reader that has gone
   */
  async exitCode(wanted: number, complain: (line: string) => void): Promise<number> {
    if (!this.#used) return wanted;
    // A failure of the last line is told behind it.
    await this.write('').catch(() => undefined);
    if (this.#lost === undefined) return wanted;
    const code = codeOf(this.#lost);
    if (code === 'EPIPE') return wanted === 0 ? NOBODY_READS : wanted;
    const error = new TwofoldError(FULL.includes(code) ? 'storage_full' : 'internal');
    complain(`standard output could not be written: ${code} (${error.code})`);
    return wanted === 0 ? 1 : wanted;
  }

  /** Whether an error is that of a write, which `exitCode` answers for. */
  isLoss(error: unknown): boolean {
    return this.#lost !== undefined && codeOf(error) === codeOf(this.#lost);
  }
}
