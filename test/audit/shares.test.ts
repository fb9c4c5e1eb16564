/** How many entries of each lane one commit takes. */
import { expect, it } from '@jest/globals';
import fc from 'fast-check';
import { LEAST_SHARE, pieces, shares } from '../../src/audit/shares.ts';
import type { LaneView } from '../../src/audit/sequencer-ports.ts';

const view = (lane: number, waiting: number): LaneView => ({
  ...{ lane, kind: 'use', next: 11, sequenced: 11, last: 10 + waiting },
  ...{ closed: false, drained: false, announced: null },
});
const lanes = fc
  .array(fc.integer({ min: 1, max: 20_000 }), { maxLength: 40 })
  .map((counts) => counts.map((waiting, at) => view(at + 1, waiting)));

it('takes everything where it fits, and otherwise no more than it may, from each its share', () => {
  fc.assert(
    fc.property(lanes, fc.integer({ min: LEAST_SHARE, max: 40_000 }), (views, most) => {
      const taken = shares(views, most);
      const counts = new Map(taken.map(({ lane, from, until }) => [lane, until - from]));
      const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
      const all = views.reduce((sum, { last }) => sum + last - 10, 0);
      const lastShares = views.slice(0, Math.max(1, Math.floor(most / LEAST_SHARE)));
      if (all <= most && lastShares.length === views.length) expect(total).toBe(all);
      else expect(total).toBeLessThanOrEqual(most);
      for (const { lane, last } of lastShares) {
        const fair = Math.min(last - 10, LEAST_SHARE, Math.floor(most / lastShares.length));
        expect(counts.get(lane)).toBeGreaterThanOrEqual(fair);
      }
    }),
  );
});

it('cuts ranges into pieces that hold no more than they may, and everything once', () => {
  fc.assert(
    fc.property(lanes, fc.integer({ min: 1, max: 1_000 }), (views, most) => {
      const ranges = shares(views, 40_000);
      const cut = pieces(ranges, most);
      // Pieces are many: what is wrong of them is collected, and expected to be nothing.
      const sizes = cut.map((piece) =>
        piece.reduce((sum, part) => sum + part.until - part.from, 0),
      );
      expect(sizes.filter((size) => size > most)).toEqual([]);
      const ofLane = Map.groupBy(cut.flat(), ({ lane }) => lane);
      for (const { lane, from, until } of ranges) {
        const parts = ofLane.get(lane) ?? [];
        expect(parts[0]?.from).toBe(from);
        expect(parts.at(-1)?.until).toBe(until);
        expect(parts.filter((part, at) => at > 0 && part.from !== parts[at - 1]?.until)).toEqual(
          [],
        );
      }
    }),
  );
});
