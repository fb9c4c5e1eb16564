/**
 * The right to answer from cache while no commit comes back (the grace), as a function of what was
 * committed and of a monotonic clock. No I/O, no timers: time is a parameter, in milliseconds.
 *
 * A *lease* runs from `t0`, read before a commit was sent that the database has acknowledged and that
 * proved this instance to be up to date, and lasts `graceMs`. What proves it:
 *
 * - a heartbeat that told epoch K and found the security epoch to be K, or
 * - an append that was accepted under epoch E, if a heartbeat has told E or a later one before.
 *
 * So whoever raises the epoch to E afterwards finds in this instance's row an epoch below E until all
 * that E changed has been taken in here, and every lease from before E began before that change was
 * acknowledged. A change that waits `graceMs` and a margin from then on has waited for all of them, and
 * a fence that the database sets only where the row's epoch is below E ends no lease early: `waiting.ts`.
 *
 * That this instance has heard of E and could not read what it changed takes nothing away therefore: E is
 * not acknowledged before it has told E, or its lease is over. Were it otherwise, an outage that begins
 * beside a change would find no grace.
 */

/** A commit that takes longer begins the grace. */
export const LATE_MS = 700;
/** The longest grace that can be configured. */
export const MOST_GRACE_MS = 120_000;

/** What sends commits; each has one under way at a time. */
export type CommitSource = 'append' | 'heartbeat';

/**
 * `off`: there is no grace here. `normal`: commits come back. `grace`: they do not, and answers from
 * cache may leave. `over`: they do not, and nothing may leave without one.
 */
export type GraceMode = 'off' | 'normal' | 'grace' | 'over';

export interface LeaseOptions {
  /** 0: no answer ever leaves without a commit. */
  readonly graceMs: number;
}

export class Lease {
  readonly #graceMs: number;
  /** When the commit was sent on which it stands; null before the first. */
  #t0: number | null = null;
  /** The greatest epoch that a committed heartbeat has told. */
  #told = 0;
  /** Since when a source has sent without a commit. */
  readonly #since = new Map<CommitSource, number>();
  #spooled = 0;
  #forfeited = false;

  constructor({ graceMs }: LeaseOptions) {
    this.#graceMs = graceMs;
  }

  get enabled(): boolean {
    return this.#graceMs > 0;
  }

  /** Monotonic time from which on nothing may leave without a commit. */
  get until(): number {
    return this.#t0 === null ? Number.NEGATIVE_INFINITY : this.#t0 + this.#graceMs;
  }

  /** A commit goes out. Those before it that failed count too, until one succeeds. */
  sent(source: CommitSource, now: number): void {
    if (!this.#since.has(source)) this.#since.set(source, now);
  }

  /** Nothing of a source is under way any more, nor will be sent again: what was refused is nobody's. */
  idle(source: CommitSource): void {
    this.#since.delete(source);
  }

  /** A heartbeat, sent at `sentAt`, told epoch `told` and found epoch `found`. */
  beaten(sentAt: number, told: number, found: number): void {
    this.#since.delete('heartbeat');
    this.#told = Math.max(this.#told, told);
    if (told === found) this.#renew(sentAt);
  }

  /**
   * An append was committed while the security epoch was `epoch`; `sentAt`: before it was first sent. A
   * heartbeat without an answer is late from then on only: the database takes commits.
   */
  appended(sentAt: number, epoch: number): void {
    this.#since.delete('append');
    const beating = this.#since.get('heartbeat');
    if (beating !== undefined) this.#since.set('heartbeat', Math.max(beating, sentAt));
    if (epoch <= this.#told) this.#renew(sentAt);
  }

  /** Entries that are in the spool and not in the database. */
  spooled(entries: number): void {
    this.#spooled = entries;
  }

  /** The instance was fenced or has ended: there is no lease any more, and there will be none. */
  forfeit(): void {
    this.#forfeited = true;
  }

  /** When a source's commit will be, or was, late; null where none is under way. */
  lateAt(source: CommitSource): number | null {
    const since = this.#since.get(source);
    return since === undefined ? null : since + LATE_MS;
  }

  /** Whether an answer whose entry is in the spool alone may leave now. */
  covers(now: number): boolean {
    return this.enabled && !this.#forfeited && now < this.until;
  }

  mode(now: number): GraceMode {
    if (!this.enabled) return 'off';
    if (!this.#isLate(now) && !this.#forfeited) return 'normal';
    return this.covers(now) ? 'grace' : 'over';
  }

  #isLate(now: number): boolean {
    return this.#spooled > 0 || [...this.#since.values()].some((since) => now - since >= LATE_MS);
  }

  #renew(sentAt: number): void {
    this.#t0 = Math.max(this.#t0 ?? sentAt, sentAt);
  }
}
