/** Pauses as the chaos report counts them, also of a run that is long. */
import { expect, it, jest } from '@jest/globals';

import { calmBetween, Timeline } from './timeline.ts';

const MANY = 300_000;

function marked(times: readonly number[]): Timeline {
  const timeline = new Timeline();
  const clock = jest.spyOn(Date, 'now');
  for (const at of times) {
    clock.mockReturnValue(at);
    timeline.mark(1, 'unwrap');
  }
  clock.mockRestore();
  return timeline;
}
const all = () => true;

it('counts from its beginning to the first after, and what is still under way to its end', () => {
  const timeline = marked([0, 10, 30, 30, 90, 100]);
  expect(timeline.longest({ from: 0, until: 100 }, all)).toBe(60);
  expect(timeline.longest({ from: 40, until: 80 }, all)).toBe(50);
  expect(timeline.longest({ from: 5, until: 20 }, all)).toBe(20);
  expect(timeline.longest({ from: 100, until: 400 }, all)).toBe(300);
  expect(timeline.longest({ from: 0, until: 50 }, () => false)).toBe(50);
});

it('takes what comes after its end for the doing of something else, where that is asked', () => {
  const timeline = marked([0, 10, 30, 90, 100]);
  expect(timeline.longestInside({ from: 0, until: 40 }, all)).toBe(20);
  expect(timeline.longestInside({ from: 5, until: 9 }, all)).toBe(0);
});

it('holds more acknowledgements than a call takes arguments', () => {
  const timeline = marked(Array.from({ length: MANY }, (_, at) => (at < 200_000 ? at : at + 7)));
  expect(timeline.longest({ from: 0, until: MANY + 7 }, all)).toBe(8);
});

it('knows what lies between strikes', () => {
  const strikes = [
    { from: 10, until: 20 },
    { from: 25, until: 40 },
  ];
  expect(calmBetween(strikes, 3)).toEqual([
    { from: 3, until: 10 },
    { from: 20, until: 25 },
  ]);
});
