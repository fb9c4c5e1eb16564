/** Which faults a chaos run makes, in which order and for how long: all of it from the seed. */
import type { Fault, FaultKind } from './faults.ts';

export interface Planned {
  readonly fault: Fault;
  readonly milliseconds: number;
}

type Lengths = Readonly<Record<FaultKind, readonly [least: number, most: number]>>;

/** A stop is longer than all that waits for an answer: Patroni takes a leader for lost after 8 s. */
const LONG: Lengths = {
  kill: [4_000, 12_000],
  stop: [30_000, 30_000],
  cut: [12_000, 25_000],
  odd: [8_000, 12_000],
};
/** Every kind in less than two minutes; what takes longer to be seen heals before it is. */
const SHORT: Lengths = {
  kill: [300, 1_000],
  stop: [1_500, 2_500],
  cut: [1_000, 2_500],
  odd: [1_000, 1_500],
};

/** Without an end: every one of the faults once in random order, then all of them anew in another. */
export function* plan(
  random: () => number,
  isShort: boolean,
  faults: readonly Fault[],
): Generator<Planned, never> {
  const lengths = isShort ? SHORT : LONG;
  for (;;) {
    const order = faults
      .map((fault) => ({ fault, place: random() }))
      .toSorted((one, other) => one.place - other.place);
    for (const { fault } of order) {
      const [least, most] = lengths[fault.kind];
      yield { fault, milliseconds: least + random() * (most - least) };
    }
  }
}
