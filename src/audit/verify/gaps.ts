/**
 * Where the tree is another than was signed. A checkpoint tells a root and opens nothing: of entries that were
 * made anew with all their tiles, it says that the first is after the last checkpoint that the tree has, and
 * before the first that it has not. Tiles of another time that have the signed root say which it is.
 */
import { equalBytes } from '../../crypto/bytes.ts';
import type { FoundCheckpoint } from './checkpoints.ts';
import type { Reference, Shown } from './narrowing.ts';
import { narrowed } from './narrowing.ts';
import type { Bound, Interval, Problem } from './problems.ts';

/** A checkpoint that the tree has not. */
interface Gap {
  readonly checkpoint: FoundCheckpoint;
  readonly signed: boolean;
  /** Size of the last signed checkpoint that the tree has; `good` where it is none. */
  readonly good: number;
  readonly after: Bound | null;
}

export class Gaps {
  /** Size up to which signed checkpoints have the tree, or the beginning of what is looked at. */
  #good: number;
  #after: Bound | null = null;
  /** Smallest first; of those between the same two that the tree has, the first one of each kind. */
  readonly #gaps: Gap[] = [];

  /** @param from index of the first entry that is looked at */
  constructor(from: number) {
    this.#good = from;
  }

  /** @param root of the tree at the checkpoint's size */
  take(checkpoint: FoundCheckpoint, root: Uint8Array, signed: boolean): void {
    if (!equalBytes(root, checkpoint.root)) {
      this.#differs(checkpoint, signed);
      return;
    }
    // Who can sign nothing can write the root that the tree has.
    if (!signed) return;
    this.#good = checkpoint.size;
    this.#after = boundOf(checkpoint);
    // The tree is as it was signed here, so what is wrong before it is that checkpoint alone, which was told.
    const open = this.#gaps.filter((gap) => gap.signed);
    this.#gaps.splice(0, this.#gaps.length, ...open);
  }

  #differs(checkpoint: FoundCheckpoint, signed: boolean): void {
    const known = this.#gaps.some(
      (gap) =>
        !gap.checkpoint.seen && gap.good === this.#good && (gap.signed || gap.signed === signed),
    );
    // Later ones say nothing new: only one that somebody saw does.
    if (known && !checkpoint.seen) return;
    this.#gaps.push({ checkpoint, signed, good: this.#good, after: this.#after });
  }

  /** One problem for each, with the narrowest interval that `references` can tell. */
  problems(references: readonly Reference[], shown: Shown): readonly Problem[] {
    const told = this.#gaps.filter(
      (gap) => gap.signed || !this.#gaps.some((other) => other.signed && other.good === gap.good),
    );
    const found = told.map((gap) => ({ gap, interval: intervalOf(gap, references, shown) }));
    return found.map(({ gap }) => {
      // Between the same two that the tree has, they are of one bad index, and one of them tells it best.
      const [best] = found
        .filter(({ gap: other }) => other.good === gap.good)
        .sort((a, b) => widthOf(a.interval) - widthOf(b.interval));
      return problemOf(gap, best?.interval ?? intervalOf(gap, references, shown));
    });
  }
}

const widthOf = ({ from, until }: Interval): number => until - from;

const boundOf = ({ size, root, where }: FoundCheckpoint): Bound => ({
  size,
  root: Buffer.from(root).toString('base64'),
  where,
});

const wideOf = ({ checkpoint: { size }, good }: Gap) => ({
  from: Math.min(good, Math.max(0, size - 1)),
  until: Math.max(size, good),
});

function intervalOf(gap: Gap, references: readonly Reference[], shown: Shown): Interval {
  const { checkpoint, signed, after } = gap;
  const { size, root } = checkpoint;
  const wide = wideOf(gap);
  // A root that nobody signed vouches for no tile.
  const { from, until, by } = signed
    ? narrowed({ ...wide, size, root }, references, shown)
    : { ...wide, by: null };
  return { from, until, exact: until === from + 1, after, before: boundOf(checkpoint), by };
}

function problemOf(gap: Gap, interval: Interval): Problem {
  const { where, seen } = gap.checkpoint;
  const code = seen ? 'history_rewritten' : 'root_mismatch';
  return { code, index: interval.from, where, why: whyOf(gap, interval), interval };
}

function whyOf(gap: Gap, { from, until, exact, by }: Interval): string {
  const wide = wideOf(gap);
  const said = `the entries from ${wide.from} to ${wide.until} do not have the root that it has`;
  if (by === null) return said;
  const place = exact ? `is ${from}` : `is from ${from} to before ${until}`;
  return `${said}; by the tiles of ${by} the first that differs ${place}`;
}
