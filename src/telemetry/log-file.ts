/**
 * Where log lines go: written in the background, in order, and never at the price of the service.
 *
 * pino's own destination ends the process when a disk is full, and hangs in doing so (seen). Here
 * lines that cannot be written are dropped and counted, and what follows says how many they were.
 */
import { write, writeSync } from 'node:fs';

/** Bytes that wait at most; a reader or disk that is slower loses lines. */
const MAX_WAITING = 4 * 1024 * 1024;
/** How soon a pipe whose reader is slow is tried again. */
const RETRY_MS = 10;

export class LogFile {
  readonly #descriptor: number;
  #waiting: Buffer[] = [];
  #bytes = 0;
  #writing = false;
  #dropped = 0;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /** One line with its end; pino calls this. */
  write(line: string): void {
    const bytes = Buffer.from(line);
    if (this.#bytes + bytes.length > MAX_WAITING) {
      this.#dropped += 1;
      return;
    }
    this.#waiting.push(bytes);
    this.#bytes += bytes.length;
    if (!this.#writing) this.#next();
  }

  /**
   * Writes what waits, for the end of the process; gives up what cannot be written. A write that is
   * under way ends by itself: Node's threads finish theirs before the process is gone.
   */
  flush(): void {
    const bytes = this.#take();
    try {
      for (let from = 0; from < bytes.length;) from += writeSync(this.#descriptor, bytes, from);
    } catch {
      // A full disk or a closed pipe: nobody is left to tell.
    }
  }

  #next(): void {
    if (this.#waiting.length === 0) return;
    const lines = this.#waiting.length + this.#dropped;
    this.#writing = true;
    this.#send(this.#take(), 0, lines);
  }

  #send(bytes: Buffer, from: number, lines: number): void {
    write(this.#descriptor, bytes, from, (error, written) => {
      if (error === null && from + written < bytes.length) {
        this.#send(bytes, from + written, lines);
        return;
      }
      if (error?.code === 'EAGAIN') {
        setTimeout(() => this.#send(bytes, from, lines), RETRY_MS);
        return;
      }
      this.#writing = false;
      if (error !== null) this.#dropped += lines;
      this.#next();
    });
  }

  #take(): Buffer {
    const parts = this.#dropped === 0 ? this.#waiting : [this.#notice(), ...this.#waiting];
    this.#waiting = [];
    this.#bytes = 0;
    this.#dropped = 0;
    return Buffer.concat(parts);
  }

  #notice(): Buffer {
    const fields = { level: 'warn', time: new Date().toISOString(), component: 'log' };
    const message = 'log lines could not be written';
    return Buffer.from(`\n${JSON.stringify({ ...fields, dropped: this.#dropped, message })}\n`);
  }
}
