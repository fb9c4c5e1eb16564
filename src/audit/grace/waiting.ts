/**
 * When a change may be acknowledged where instances may answer from cache for a while (promise P5):
 * once each of them has confirmed the change's epoch, is closed or fenced, or can have no lease any more
 * from before the change. No I/O: time is a parameter, in milliseconds of a monotonic clock.
 */

/**
 * Beyond an instance's grace, before it is fenced: that no clock runs even as one of another machine
 * does (a thousandth of two minutes is 120 ms), and that an answer that was checked has still to be
 * written.
 */
export const MARGIN_MS = 2_000;

/** An instance with a grace that is neither closed nor fenced. */
export interface GraceHolder {
  readonly id: string;
  readonly graceMs: number;
  /** The epoch whose changes it has all taken in, as its last committed heartbeat told. */
  readonly epochSeen: number;
}

/** What a read that only the primary answers found, after the change was acknowledged by the database. */
export interface Holders {
  /** The security epoch: the change's own, or a later one. */
  readonly epoch: number;
  readonly holders: readonly GraceHolder[];
}

export type Verdict =
  | { readonly kind: 'confirmed' }
  /** All others have; this instance itself has yet to take the changes in. */
  | { readonly kind: 'learn' }
  /** To be looked at again; `until`: when the next of them can be fenced. */
  | { readonly kind: 'wait'; readonly until: number }
  /** Their leases are over: each is fenced unless it has told `epoch` meanwhile. */
  | { readonly kind: 'fence'; readonly ids: readonly string[]; readonly epoch: number };

export class ChangeWait {
  /** This instance: it need not tell itself, but has to know. */
  readonly #self: string;
  #epoch: number | null = null;
  #since = Number.POSITIVE_INFINITY;

  constructor(self: string) {
    this.#self = self;
  }

  /**
   * `now` is read after the answer came: the change was committed before. `known`: the epoch whose changes
   * have all been taken in here.
   */
  look(now: number, { epoch, holders }: Holders, known: number): Verdict {
    if (this.#epoch === null) {
      this.#epoch = epoch;
      this.#since = now;
    }
    const awaited = this.#epoch;
    const unconfirmed = holders.filter(
      ({ id, epochSeen }) => id !== this.#self && epochSeen < awaited,
    );
    if (unconfirmed.length === 0) return { kind: known < awaited ? 'learn' : 'confirmed' };
    const over = unconfirmed.filter((holder) => this.#endOf(holder) <= now);
    if (over.length > 0) return { kind: 'fence', ids: over.map(({ id }) => id), epoch: awaited };
    return { kind: 'wait', until: Math.min(...unconfirmed.map((holder) => this.#endOf(holder))) };
  }

  #endOf({ graceMs }: GraceHolder): number {
    return this.#since + graceMs + MARGIN_MS;
  }
}
