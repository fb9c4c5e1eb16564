/**
 * Holds commits back while their outcomes stay unknown.
 *
 * A commit that waits for a standby keeps its server process after the client has given up, so
 * going on would use up the server's connections (seen: all 100 within 3 s). After `threshold`
 * unknown outcomes in a row one commit at a time may probe; the first that is acknowledged closes
 * the circuit.
 */
import { CircuitOpen } from './outcome.ts';
import type { Outcome } from './outcome.ts';

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
   * Asks for leave to commit. The caller reports the outcome to the function it gets, exactly once.
   *
   * @throws CircuitOpen when open and a probe is under way.
   */
  enter(): (outcome: Outcome | 'applied') => void {
    if (this.open && this.#probing) throw new CircuitOpen('commits are held back');
    const probe = this.open;
    if (probe) this.#probing = true;
    return (outcome) => {
      if (probe) this.#probing = false;
      if (outcome === 'unknown') this.#unknown += 1;
      if (outcome === 'applied') this.#unknown = 0;
    };
  }
}
