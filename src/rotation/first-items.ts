/** The first `size` of a stream of rotations by (due time, key id), after a cursor: one page, never all. */

/** Where the page before ended. */
export interface RotationCursor {
  /** Milliseconds since the epoch. */
  readonly dueAt: number;
  readonly keyId: string;
}

const order = (a: RotationCursor, b: RotationCursor): number =>
  a.dueAt - b.dueAt || (a.keyId < b.keyId ? -1 : a.keyId > b.keyId ? 1 : 0);

export class FirstItems<T extends RotationCursor> {
  readonly #items: T[] = [];
  readonly #size: number;
  readonly #after: RotationCursor | null;
  #more = false;

  constructor(size: number, after: RotationCursor | null) {
    this.#size = size;
    this.#after = after;
  }

  /** In order. */
  get items(): readonly T[] {
    return this.#items;
  }

  /** Whether an item after the last of these was offered. */
  get more(): boolean {
    return this.#more;
  }

  /** Makes the item only if it belongs to the page: most of a million do not. */
  offer(at: RotationCursor, make: () => T): void {
    if (this.#after !== null && order(at, this.#after) <= 0) return;
    const last = this.#items.at(-1);
    const full = this.#items.length >= this.#size;
    if (full && (last === undefined || order(at, last) > 0)) {
      this.#more = true;
      return;
    }
    this.#items.splice(this.#placeOf(at), 0, make());
    if (this.#items.length <= this.#size) return;
    this.#items.pop();
    this.#more = true;
  }

  #placeOf(at: RotationCursor): number {
    let [low, high] = [0, this.#items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const item = this.#items[middle];
      if (item !== undefined && order(item, at) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
