/** The rotations of a minute: spread over it, and reserved one after the other. */
import { describe, expect, it } from '@jest/globals';
import { Budget, Line } from '../../src/rotation/budget.ts';

const MINUTE = 60_000;

describe('the rotations of a minute', () => {
  it('come evenly, and what was not used is lost but for two seconds of it', () => {
    const budget = new Budget(60);
    const taken = (from: number, seconds: number) =>
      Array.from({ length: seconds }, (_, second) => budget.take(from + second * 1_000)).filter(
        Boolean,
      ).length;
    expect(taken(0, 60)).toBe(60);
    expect([budget.take(MINUTE), budget.take(MINUTE)]).toEqual([true, true]);
    expect(budget.take(MINUTE)).toBe(false);
    expect(budget.left(3 * MINUTE)).toBe(2);
  });

  it('are one at least at a time, however few they are', () => {
    const budget = new Budget(1);
    expect([budget.take(0), budget.take(59_999), budget.take(60_001)]).toEqual([true, false, true]);
  });

  it('are reserved one after the other', () => {
    const budget = new Budget(60);
    expect([1, 2, 3].map(() => budget.reserve(5_000).getTime())).toEqual([6_000, 7_000, 8_000]);
    expect(budget.reserve(30_000).getTime()).toBe(31_000);
  });

  it('wait for no time that a clock had reached before it was set back', () => {
    const budget = new Budget(60);
    budget.take(100 * MINUTE);
    budget.reserve(100 * MINUTE);
    budget.take(MINUTE);
    expect(budget.reserve(MINUTE).getTime()).toBe(MINUTE + 1_000);
  });

  it('keep a place in the line, but for one in a future that the clock was set back from', () => {
    const line = new Line(new Budget(60));
    const turn = (key: string, at: number) => line.turnOf(key, at).getTime() - at;
    expect([turn('a', 100 * MINUTE), turn('b', 100 * MINUTE)]).toEqual([1_000, 2_000]);
    expect([turn('b', 100 * MINUTE), turn('a', 100 * MINUTE)]).toEqual([2_000, 1_000]);
    expect([turn('b', MINUTE), turn('a', MINUTE), turn('b', MINUTE)]).toEqual([
      1_000, 2_000, 1_000,
    ]);
  });

  it('are given back once nobody waits, however many had a turn', () => {
    const line = new Line(new Budget(60));
    const keys = Array.from({ length: 1_000 }, (_, key) => String(key));
    for (const key of keys) line.turnOf(key, 0);
    for (const key of keys) line.leave(key);
    line.budget.giveBack(5_000);
    expect(line.turnOf('x', 5_000).getTime()).toBe(6_000);
  });
});
