/**
 * Lets only some of the pool's connections be held by reads, so that a storm of them, or a database
 * in which they hang, leaves connections to what must commit (promise P3: every answer waits for one).
 */
import { TwofoldError } from '../errors.ts';

/** How long a read waits for its turn; as long as a statement may take. */
const PATIENCE_MS = 3000;

export class ReadGate {
  #free: number;
  /** First come, first served. */
  readonly #waiting = new Set<() => void>();

  /** @param limit reads at a time, at least one */
  constructor(limit: number) {
    this.#free = Math.max(1, Math.floor(limit));
  }

  /**
   * Runs `read` in its turn.
   * @throws TwofoldError database_unavailable when its turn did not come in time
   */
  async run<T>(read: () => Promise<T>): Promise<T> {
    await this.#enter();
    try {
      return await read();
    } finally {
      this.#leave();
    }
  }

  #enter(): Promise<void> {
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve();
    }
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => {
      this.#waiting.delete(turn);
      reject(
        new TwofoldError('database_unavailable', 'Too many reads are under way.', {
          retryAfter: 1,
        }),
      );
    }, PATIENCE_MS);
    const turn = (): void => {
      clearTimeout(timer);
      resolve(undefined);
    };
    this.#waiting.add(turn);
    return promise;
  }

  /** The next in line takes the place over. */
  #leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}

export interface ReadGates {
  /** Reads of one key or record: half of the connections. */
  readonly lookups: ReadGate;
  /** Pages of keys and of audit entries, which may take long: a third. */
  readonly searches: ReadGate;
}

/** For a pool of `connections`: at least one is never held by either. */
export const readGates = (connections: number): ReadGates => {
  const searches = new ReadGate(connections / 3);
  return { searches, lookups: connections < 3 ? searches : new ReadGate(connections / 2) };
};
