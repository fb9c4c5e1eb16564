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
  | 'archive_broken'
  | 'lane_broken'
  | 'lane_incomplete'
  | 'epoch_fell'
  | 'transition_broken'
  | 'state_outdated'
  | 'state_unlogged'
  | 'state_missing'
  | 'state_altered';

/** A checkpoint that bounds an interval. */
export interface Bound {
  readonly size: number;
  /** Root of the tree of that size, base64. */
  readonly root: string;
  /** Where the checkpoint was read. */
  readonly where: string;
}

/** Where the first bad index is, when the tree is another than was signed. */
export interface Interval {
  /** It is not before this one. */
  readonly from: number;
  /** It is before this one; `from + 1` where it is known exactly. */
  readonly until: number;
  readonly exact: boolean;
  /** The last checkpoint that the tree has; null where it has none. */
  readonly after: Bound | null;
  /** The first that it has not. */
  readonly before: Bound;
  /** The folder whose tiles, which have the root of `before`, told it more closely; null for none. */
  readonly by: string | null;
}

export interface Problem {
  readonly code: ProblemCode;
  /** The first index of the log that it concerns; null when it concerns none. */
  readonly index: number | null;
  /** A file, a lane (`lane 4`) or a key (`key <id>`). */
  readonly where: string;
  readonly why: string;
  /** Of `root_mismatch` and `history_rewritten` alone. */
  readonly interval?: Interval;
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
    if (this.#kept.length < this.#limit) this.#kept.push(problem);
    this.#counted(problem);
  }

  /** Before the others, and kept: what could be said only after all else was looked at. */
  lead(problems: readonly Problem[]): void {
    this.#kept.unshift(...problems);
    this.#kept.length = Math.min(this.#kept.length, this.#limit);
    for (const problem of problems) this.#counted(problem);
  }

  #counted(problem: Problem): void {
    this.#count += 1;
    const { index } = problem;
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
