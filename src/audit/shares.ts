/** How many entries of each lane one commit takes. */
import type { LaneRange, LaneView } from './sequencer-ports.ts';

/** More than one batch of a writer, so that whatever is taken holds a whole one. */
export const LEAST_SHARE = 512;

/**
 * Everything where it fits into `most`; otherwise the same for each lane, and what one does not use goes
 * to the others. With more lanes than can get the least share, the first ones get it: the caller turns
 * the order from commit to commit.
 */
export function shares(lanes: readonly LaneView[], most: number): readonly LaneRange[] {
  const taken = lanes.slice(0, Math.max(1, Math.floor(most / LEAST_SHARE)));
  let rest = most;
  let left = taken.length;
  const share = new Map<number, number>();
  for (const view of [...taken].sort((a, b) => waitingOf(a) - waitingOf(b))) {
    const count = Math.min(waitingOf(view), Math.max(LEAST_SHARE, Math.floor(rest / left)));
    share.set(view.lane, count);
    rest -= count;
    left -= 1;
  }
  return taken.flatMap(({ lane, next }) => {
    const count = share.get(lane) ?? 0;
    return count === 0 ? [] : [{ lane, from: next, until: next + count }];
  });
}

export const waitingOf = ({ next, last }: LaneView): number => Math.max(0, last - next + 1);

/** The ranges cut into pieces that hold at most `most` entries together, in order. */
export function pieces(ranges: readonly LaneRange[], most: number): readonly LaneRange[][] {
  const all: LaneRange[][] = [[]];
  let room = most;
  for (const { lane, from, until } of ranges) {
    for (let start = from; start < until;) {
      const end = Math.min(until, start + room);
      all.at(-1)?.push({ lane, from: start, until: end });
      room -= end - start;
      start = end;
      if (room > 0) continue;
      all.push([]);
      room = most;
    }
  }
  return all.filter((piece) => piece.length > 0);
}
