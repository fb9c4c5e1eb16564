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
/** How long a suspension waits for its turn; longer than any change that makes no RSA key takes. */
const URGENT_PATIENCE_MS = 2_000;

interface Line {
  /** Id of the request whose turn it is. */
  holder: string;
  readonly waiting: Set<() => void>;
  /** Urgent requests that go on without a turn. */
  readonly ahead: Set<string>;
}

export class KeyTurns implements ChangeOrder {
  readonly #lines = new Map<string, Line>();

  async take(
    keyId: string,
    requestId: string,
    ended: Promise<unknown>,
    urgency?: 'urgent',
  ): Promise<void> {
    const line = this.#lines.get(keyId);
    if (line?.holder === requestId || line?.ahead.has(requestId) === true) return;
    if (line === undefined) {
      this.#lines.set(keyId, { holder: requestId, waiting: new Set(), ahead: new Set() });
    } else if (!(await waitIn(line, requestId, urgency === 'urgent'))) {
      line.ahead.add(requestId);
      void ended.then(() => line.ahead.delete(requestId));
      return;
    }
    void ended.then(() => this.#pass(keyId));
  }

  #pass(keyId: string): void {
    const line = this.#lines.get(keyId);
    const [next] = line?.waiting ?? [];
    if (next === undefined) this.#lines.delete(keyId);
    else next();
  }
}

/** Whether the turn came; false for an urgent request that goes ahead. */
function waitIn(line: Line, requestId: string, urgent: boolean): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const turn = (): void => {
    clearTimeout(timer);
    line.waiting.delete(turn);
    line.holder = requestId;
    resolve(true);
  };
  const giveUp = (): void => {
    line.waiting.delete(turn);
    if (urgent) resolve(false);
    else reject(new TwofoldError('conflict', 'Other changes of the key take too long.'));
  };
  const timer = setTimeout(giveUp, urgent ? URGENT_PATIENCE_MS : PATIENCE_MS).unref();
  line.waiting.add(turn);
  return promise;
}
