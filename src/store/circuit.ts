/**
 * Holds commits back while their outcomes stay unknown.
 *
 * A commit that waits for a standby keeps its server process after the client has given up, so
 * going on would use up the server's connections (seen: all 100 within 3 s). After `threshold`
 * unknown outcomes in a row one commit at a time may probe, and only once none of those before it
 * waits any more (`transaction.ts`), or an outage would use up the connections one by one. The first
 * that is acknowledged closes the circuit.
 */
import { CircuitOpen } from './outcome.ts';
import type { Outcome } from './outcome.ts';

export interface Leave {
  /** Whether this is the one that tries while the others are held back. */
  readonly isProbe: boolean;
  /** Takes the outcome, exactly once. */
  readonly report: (outcome: Outcome | 'applied') => void;
}

export class CommitCircuit {
  readonly #threshold: number;
  #unknown = 0;
  #probing = false;

  constructor(threshold = 5) {
    this.#threshold = threshold;
  }

  get open(): boolean {
    return this.#unknown >= this.#threshold;
  }

  /**
   * Asks for leave to commit.
   *
   * @throws CircuitOpen when open and a probe is under way.
   */
  enter(): Leave {
    if (this.open && this.#probing) throw new CircuitOpen('commits are held back');
    const isProbe = this.open;
    if (isProbe) this.#probing = true;
    return {
      isProbe,
      report: (outcome) => {
        if (isProbe) this.#probing = false;
        if (outcome === 'unknown') this.#unknown += 1;
        if (outcome === 'applied') this.#unknown = 0;
      },
    };
  }
}
