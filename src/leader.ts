/**
 * One leader among all instances on a database, by a row (design: only a commit is exclusive).
 *
 * Election saves work; what makes each effect happen once is its own primary key. A candidate takes the
 * next term after term and beat stood still for a while on its own monotonic clock: no two clocks are
 * compared, and a leader that was paused finds its term gone at its next effect.
 */
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

export interface LeaderOptions {
  readonly store: LeaderStore;
  readonly role: string;
  /** Instance id. */
  readonly holder: string;
  readonly silenceMs?: number;
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
