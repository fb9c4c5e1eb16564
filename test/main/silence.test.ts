/** How long no heartbeat came back, as others are judged by theirs. */
import { expect, it } from '@jest/globals';
import fc from 'fast-check';

import { Silence, UNKNOWN_MS } from '../../src/main/silence.ts';

const SETTLED = 15_000;

/** Of a process that has beaten for long enough by 0. */
function settled(): Silence {
  const silence = new Silence(SETTLED, -SETTLED);
  for (let at = 1_000 - SETTLED; at <= 0; at += 1_000) silence.beaten(at, at);
  return silence;
}

it('is of unknown length for who has just started, until every other has beaten again', () => {
  const silence = new Silence(SETTLED, 0);
  expect(silence.ms(0)).toBe(UNKNOWN_MS);
  for (let at = 1_000; at < SETTLED; at += 1_000) {
    silence.beaten(at, at);
    expect(silence.ms(at)).toBe(UNKNOWN_MS);
  }
  silence.beaten(SETTLED, SETTLED);
  expect(silence.ms(SETTLED)).toBe(0);
});

it('reaches further back where another follows a start', () => {
  const silence = new Silence(SETTLED, 0);
  expect(silence.ms(10_000)).toBe(UNKNOWN_MS + 10_000);
});

it('is none while heartbeats come back', () => {
  const silence = settled();
  for (let at = 1_000; at < 60_000; at += 1_000) {
    silence.beaten(at, at + 100);
    expect(silence.ms(at + 900)).toBe(0);
  }
});

it('grows while none comes back, and counts for as long afterwards as others need', () => {
  const silence = settled();
  silence.beaten(1_000, 1_100);
  expect(silence.ms(21_000)).toBe(20_000);
  silence.beaten(31_000, 31_100);
  expect(silence.ms(31_100)).toBe(30_100);
  for (let at = 32_000; at < 46_000; at += 1_000) {
    silence.beaten(at, at + 100);
    expect(silence.ms(at + 900)).toBe(30_100);
  }
  silence.beaten(46_000, 46_100);
  expect(silence.ms(46_100)).toBe(0);
});

it('goes on where another follows before all have beaten again', () => {
  const silence = settled();
  silence.beaten(20_000, 20_100);
  expect(silence.ms(20_200)).toBe(20_100);
  expect(silence.ms(40_000)).toBe(40_000);
  silence.beaten(40_000, 40_100);
  expect(silence.ms(40_200)).toBe(40_100);
});

it('reaches back to before who lives was kept from beating, whenever it is asked', () => {
  // The database answers in every other of these spans, another instance from some seconds later on.
  const spans = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 12 });
  const property = fc.property(spans, fc.integer({ min: 0, max: 999 }), (lengths, phase) => {
    const silence = settled();
    let other = 0;
    let now = 0;
    for (const [index, seconds] of lengths.entries()) {
      for (let second = 0; second < seconds; second += 1) {
        now += 1_000;
        if (index % 2 === 0) silence.beaten(now, now);
        const asked = now + phase;
        expect(asked - other).toBeLessThan(SETTLED + silence.ms(asked));
        const lag = (lengths[index - 1] ?? 0) >= 4 ? 3 : 0;
        if (index % 2 === 0 && second >= lag) other = asked;
      }
    }
  });
  fc.assert(property, { endOnFailure: true });
});
