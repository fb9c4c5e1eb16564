/**
 * The order of changes of one key within this process: first come, first served. Without it a stream
 * of changes would overtake each of their number, and the suspension that is to stop them, for ever.
 * Changes of other processes are settled by the epoch barrier alone.
 */
import { TwofoldError } from '../errors.ts';
import type { ChangeOrder } from './operations.ts';

/**
 * How long a change waits for those before it; as long as one of them may take: a token has 120 s for
 * an RSA key of 4096 bits.
 */
const PATIENCE_MS = 150_000;

interface Line {
  /** Id of the request whose turn it is. */
  holder: string;
  readonly waiting: Set<() => void>;
}

export class KeyTurns implements ChangeOrder {
  readonly #lines = new Map<string, Line>();

  async take(keyId: string, requestId: string, ended: Promise<unknown>): Promise<void> {
    const line = this.#lines.get(keyId);
    if (line?.holder === requestId) return;
    if (line === undefined) this.#lines.set(keyId, { holder: requestId, waiting: new Set() });
    else await waitIn(line, requestId);
    void ended.then(() => this.#pass(keyId));
  }

  #pass(keyId: string): void {
    const line = this.#lines.get(keyId);
    const [next] = line?.waiting ?? [];
    if (next === undefined) this.#lines.delete(keyId);
    else next();
  }
}

function waitIn(line: Line, requestId: string): Promise<undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const turn = (): void => {
    clearTimeout(timer);
    line.waiting.delete(turn);
    line.holder = requestId;
    resolve(undefined);
  };
  const timer = setTimeout(() => {
    line.waiting.delete(turn);
    reject(new TwofoldError('conflict', 'Other changes of the key take too long.'));
  }, PATIENCE_MS).unref();
  line.waiting.add(turn);
  return promise;
}
