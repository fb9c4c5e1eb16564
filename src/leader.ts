/**
 * One leader among all instances on a database, by a row (design: only a commit is exclusive).
 *
 * Election saves work; what makes each effect happen once is its own primary key. A candidate takes the
 * next term after term and beat stood still for a while on its own monotonic clock: no two clocks are
 * compared, and a leader that was paused finds its term gone at its next effect.
 */
import { setTimeout as sleep } from 'node:timers/promises';

/** A leadership as it stands. */
export interface Leadership {
  readonly term: number;
  /** Instance id; null when it was given up. */
  readonly holder: string | null;
  readonly beat: number;
}

/** Implemented by `store/leader-store.ts`. */
export interface LeaderStore {
  leadership(role: string): Promise<Leadership>;
  /**
   * Takes the term after `seen` if it still stands as seen, or gives up one's own (`holder` null).
   * Null: somebody was faster. Durable when it resolves.
   */
  takeLeadership(role: string, seen: Leadership, holder: string | null): Promise<Leadership | null>;
  /** One beat of one's own term; false: leader no more. */
  beat(role: string, term: number, holder: string): Promise<boolean>;
}

/** How long a leader may be silent. */
export const SILENCE_MS = 10_000;
/** Beats while something takes long, for each time that it may be silent. */
const BEATS_A_SILENCE = 5;
/**
 * Longest work that the term is kept for: above the longest wait for the device (120 s, an RSA key of 4096 bits,
 * `hsm/pool.ts`), so that what hangs does not hold it for ever.
 */
const LONGEST_WORK_MS = 180_000;

export interface LeaderOptions {
  readonly store: LeaderStore;
  readonly role: string;
  /** Instance id. */
  readonly holder: string;
  readonly silenceMs?: number;
  readonly longestWorkMs?: number;
  /** Milliseconds that only rise. */
  readonly monotonic?: () => number;
  /** Told of each term that it took, and of each that it found lost or gave up. */
  readonly onTurn?: (turn: 'taken' | 'lost', term: number) => void;
}

export class Leader {
  readonly #options: Required<LeaderOptions>;
  #term: number | null = null;
  #seen: { readonly leadership: Leadership; readonly since: number } | null = null;

  constructor(options: LeaderOptions) {
    this.#options = {
      silenceMs: SILENCE_MS,
      longestWorkMs: LONGEST_WORK_MS,
      monotonic: () => performance.now(),
      onTurn: () => undefined,
      ...options,
    };
  }

  /** The term that it leads in; null while somebody else leads. */
  get term(): number | null {
    return this.#term;
  }

  /** Keeps the term, or tries to take the next one; call it every second or so. */
  async tick(): Promise<number | null> {
    const { store, role, holder } = this.#options;
    if (this.#term !== null) {
      if (await store.beat(role, this.#term, holder)) return this.#term;
      this.lose();
    }
    const leadership = await store.leadership(role);
    if (!this.#isVacant(leadership)) return null;
    const taken = await store.takeLeadership(role, leadership, holder);
    this.#seen = null;
    if (taken === null) return null;
    this.#term = taken.term;
    this.#options.onTurn('taken', taken.term);
    return this.#term;
  }

  /**
   * Does one thing that may take longer than a leader may be silent, and beats meanwhile. Whether the term
   * still stood is for `hold-leadership` to say, at the commit.
   */
  async beatDuring<T>(term: number, work: () => Promise<T>): Promise<T> {
    const ended = new AbortController();
    const beats = this.#beatUntil(ended.signal, term);
    try {
      return await work();
    } finally {
      ended.abort();
      await beats;
    }
  }

  async #beatUntil(ended: AbortSignal, term: number): Promise<void> {
    const { store, role, holder, silenceMs, longestWorkMs } = this.#options;
    // One that may not be silent at all cannot be kept by beats.
    if (silenceMs === 0) return;
    const until = performance.now() + longestWorkMs;
    while (performance.now() < until) {
      await sleep(silenceMs / BEATS_A_SILENCE, undefined, { signal: ended, ref: false }).catch(
        () => undefined,
      );
      if (ended.aborted || this.#term !== term) return;
      // A beat that the database refuses is one less; the next may come in time.
      const stands = await store.beat(role, term, holder).catch(() => true);
      if (!stands && this.#term === term) this.lose();
    }
  }

  /** Whether somebody leads, or may; for who never ticks, and waits until nobody does. Call it every second or so. */
  async isHeld(): Promise<boolean> {
    const { store, role } = this.#options;
    return !this.#isVacant(await store.leadership(role));
  }

  #isVacant(leadership: Leadership): boolean {
    if (leadership.holder === null) return true;
    const now = this.#options.monotonic();
    const seen = this.#seen;
    const still =
      seen?.leadership.term === leadership.term && seen.leadership.beat === leadership.beat;
    if (!still) this.#seen = { leadership, since: now };
    return still && now - seen.since >= this.#options.silenceMs;
  }

  /** It found out elsewhere that its term is over. */
  lose(): void {
    const term = this.#term;
    this.#term = null;
    if (term !== null) this.#options.onTurn('lost', term);
  }

  /** Gives the term up, so that nobody waits for it. */
  async resign(): Promise<void> {
    const { store, role, holder } = this.#options;
    if (this.#term === null) return;
    const term = this.#term;
    this.lose();
    const standing = await store.leadership(role);
    if (standing.term !== term || standing.holder !== holder) return;
    await store.takeLeadership(role, standing, null);
  }
}
