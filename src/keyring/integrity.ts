/**
 * Which rows were found altered: each stays noted, and health red, until reading it again finds it
 * whole (or gone). An altered row is an attack or a broken restore, so no request may hide it.
 */
import { TwofoldError } from '../errors.ts';

/** More are not told apart: health is as red with this many as with more. */
const MAX_NOTED = 1_000;

export class IntegrityWatch {
  /** How to read again what was found altered, by what it is. */
  readonly #altered = new Map<string, () => Promise<unknown>>();
  #round: Promise<void> | null = null;
  #closed = false;

  /** How many rows are noted as altered; 0 is health. */
  get altered(): number {
    return this.#altered.size;
  }

  /** Runs `read`, which verifies what it reads, and notes what it finds under `what`. */
  async over<T>(what: string, read: () => Promise<T>): Promise<T> {
    try {
      const value = await read();
      this.#altered.delete(what);
      return value;
    } catch (error) {
      const altered = TwofoldError.is(error, 'integrity_failed');
      if (altered && this.#altered.size < MAX_NOTED) this.#altered.set(what, read);
      throw error;
    }
  }

  /** Reads again what is noted, one after the other; joins a round under way. Never rejects. */
  async recheck(): Promise<void> {
    this.#round ??= this.#readAgain().finally(() => {
      this.#round = null;
    });
    await this.#round;
  }

  /** No reading begins from now on; resolves once the one under way is over. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#round;
  }

  async #readAgain(): Promise<void> {
    for (const [what, read] of [...this.#altered]) {
      if (this.#closed) return;
      // What it finds is noted; a database that is away changes nothing.
      await this.over(what, read).catch(() => undefined);
    }
  }
}
