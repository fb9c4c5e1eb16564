/** Lanes: each begins at 1, has no gap, holds its entries together by hashes, and ends where it says. */
import type { EntryView } from './entry-view.ts';
import type { Problems } from './problems.ts';

/** What the log says of a lane. */
export interface LaneFacts {
  /** Number of its last entry. */
  n: number;
  /** As of the index `stateFrom` of the export: what was in the log when lanes and rows were read. */
  nBefore: number;
  epoch: number;
  readonly leaf: Uint8Array;
  /** 16 bytes in hexadecimal. */
  readonly instance: string;
  /** Of its first entry; null when that is not in the export. */
  kind: string | null;
  /** Index of the entry that says that it is the last. */
  end: number | null;
}

const NO_PREVIOUS = new Uint8Array(32);

export class Lanes {
  readonly #problems: Problems;
  readonly #whole: boolean;
  readonly #lanes = new Map<number, LaneFacts>();

  /** @param whole whether the export begins with the log */
  constructor(problems: Problems, whole: boolean) {
    this.#problems = problems;
    this.#whole = whole;
  }

  get seen(): ReadonlyMap<number, LaneFacts> {
    return this.#lanes;
  }

  /** @param leaf of this entry, as computed from its bytes; copied */
  take(index: number, entry: EntryView, leaf: Uint8Array, before: boolean): LaneFacts {
    const { lane: number, n, epoch } = entry;
    let lane = this.#lanes.get(number);
    if (lane === undefined) {
      lane = this.#open(index, entry);
    } else {
      this.#follow(index, entry, lane);
    }
    lane.n = n;
    if (before) lane.nBefore = n;
    lane.epoch = epoch;
    lane.leaf.set(leaf);
    return lane;
  }

  /** The entry says of itself that it is its lane's last. */
  end(index: number, lane: LaneFacts): void {
    lane.end ??= index;
  }

  #open(index: number, { lane: number, n, epoch, previous, instance }: EntryView): LaneFacts {
    if (n === 1 && !same(previous, NO_PREVIOUS)) {
      this.#broken(index, number, 'its first entry follows another');
    } else if (n !== 1 && this.#whole) {
      this.#broken(index, number, `it begins with number ${n}`);
    }
    const leaf = new Uint8Array(NO_PREVIOUS.length);
    const lane = { n, nBefore: 0, epoch, leaf, instance, kind: null, end: null };
    this.#lanes.set(number, lane);
    return lane;
  }

  #follow(index: number, { lane: number, n, epoch, previous }: EntryView, lane: LaneFacts): void {
    if (n !== lane.n + 1) {
      this.#broken(index, number, `number ${n} stands there after ${lane.n}`);
    } else if (!same(previous, lane.leaf)) {
      this.#broken(index, number, `number ${n} follows another entry ${lane.n} than stands there`);
    } else if (lane.end !== null) {
      this.#broken(index, number, `number ${n} stands there after the lane's last`);
    }
    if (epoch < lane.epoch) {
      const why = `security epoch ${epoch} after ${lane.epoch}`;
      this.#problems.add('epoch_fell', index, `lane ${number}`, why);
    }
  }

  #broken(index: number, lane: number, why: string): void {
    this.#problems.add('lane_broken', index, `lane ${lane}`, why);
  }
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
