/**
 * Places for those of whom nothing is known but where they come from. Where all are taken, a newcomer gets
 * the place of one of the source that has most, the oldest first: whoever is quick is done by then, and who
 * holds many places holds them from nobody but itself.
 */
export class Places<T> {
  readonly #most: number;
  /** In the order in which they came. */
  readonly #taken = new Map<T, { readonly source: string; kept: boolean }>();
  readonly #counts = new Map<string, number>();

  constructor(most: number) {
    this.#most = most;
  }

  /**
   * Gives `who` a place, for which another may have to go.
   * @returns who has no place any more: nobody (null), another, or `who` itself, which got none
   */
  take(who: T, source: string): T | null {
    let gone: T | null = null;
    if (this.#taken.size >= this.#most) {
      gone = this.#toGo(source);
      if (gone === null) return who;
      this.leave(gone);
    }
    this.#taken.set(who, { source, kept: false });
    this.#counts.set(source, this.#of(source) + 1);
    return gone;
  }

  /** From now on it goes for sources that have fewer places only, no more for others of its own. */
  keep(who: T): void {
    const taken = this.#taken.get(who);
    if (taken !== undefined) taken.kept = true;
  }

  /** Idempotent. */
  leave(who: T): void {
    const taken = this.#taken.get(who);
    if (taken === undefined) return;
    this.#taken.delete(who);
    const left = this.#of(taken.source) - 1;
    if (left > 0) this.#counts.set(taken.source, left);
    else this.#counts.delete(taken.source);
  }

  #of(source: string): number {
    return this.#counts.get(source) ?? 0;
  }

  #toGo(newcomer: string): T | null {
    // What the newcomer's source would have with it.
    const own = this.#of(newcomer) + 1;
    let [gone, most, isKept]: [T | null, number, boolean] = [null, 0, false];
    for (const [who, { source, kept }] of this.#taken) {
      const count = source === newcomer ? own : this.#of(source);
      if (count < own || (kept && count === own)) continue;
      if (count > most || (count === most && isKept && !kept)) {
        [gone, most, isKept] = [who, count, kept];
      }
    }
    return gone;
  }
}
