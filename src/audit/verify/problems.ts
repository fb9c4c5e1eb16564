/** What a verification finds: each with the first index it concerns and why. */

/** Stable codes; `docs/audit-log.md` says what each means. */
export type ProblemCode =
  | 'file_missing'
  | 'file_malformed'
  | 'entry_malformed'
  | 'entry_altered'
  | 'entry_misfiled'
  | 'tile_altered'
  | 'root_mismatch'
  | 'checkpoint_malformed'
  | 'checkpoint_unsigned'
  | 'checkpoint_forged'
  | 'checkpoint_order'
  | 'rolled_back'
  | 'history_rewritten'
  | 'witnesses_missing'
  | 'key_set_untrusted'
  | 'lane_broken'
  | 'lane_incomplete'
  | 'epoch_fell'
  | 'transition_broken'
  | 'state_outdated'
  | 'state_unlogged'
  | 'state_missing'
  | 'state_altered';

export interface Problem {
  readonly code: ProblemCode;
  /** The first index of the log that it concerns; null when it concerns none. */
  readonly index: number | null;
  /** A file, a lane (`lane 4`) or a key (`key <id>`). */
  readonly where: string;
  readonly why: string;
}

/** Keeps the first ones, and counts all. */
export class Problems {
  readonly #limit: number;
  readonly #kept: Problem[] = [];
  #first: Problem | null = null;
  #count = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(code: ProblemCode, index: number | null, where: string, why: string): void {
    const problem = { code, index, where, why };
    this.#count += 1;
    if (this.#kept.length < this.#limit) this.#kept.push(problem);
    if (index !== null && (this.#first?.index ?? Infinity) > index) this.#first = problem;
  }

  get count(): number {
    return this.#count;
  }

  get kept(): readonly Problem[] {
    return this.#kept;
  }

  /** The one with the smallest index, the first of those with the same. */
  get first(): Problem | null {
    return this.#first ?? this.#kept[0] ?? null;
  }
}
