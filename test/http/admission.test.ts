import { EventEmitter } from 'node:events';

import { describe, expect, it } from '@jest/globals';

import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';

import { Admission } from '../../src/http/admission.ts';
import { stopwatch } from '../waited.ts';

/** Work that ends when it is told to; says in which order it began. */
function works() {
  const began: number[] = [];
  const ends = new Map<number, () => void>();
  const work = (index: number) => () => {
    began.push(index);
    return new Promise<void>((resolve) => ends.set(index, resolve));
  };
  return { began, work, end: (index: number) => ends.get(index)?.() };
}

const LONG_MS = 60_000;
/** A caller that stays. */
const HERE = new EventEmitter() as EventEmitter & { readonly destroyed: boolean };
HERE.setMaxListeners(0);

describe('uses are worked on', () => {
  it('at once while there are places, and otherwise in order', async () => {
    const admission = new Admission({ atOnce: 2, stallMs: LONG_MS });
    const { began, work, end } = works();
    const all = [0, 1, 2, 3, 4].map((index) => admission.run(HERE, work(index)));
    expect(began).toEqual([0, 1]);
    end(1);
    await turn();
    expect(began).toEqual([0, 1, 2]);
    end(0);
    end(2);
    await turn();
    expect(began).toEqual([0, 1, 2, 3, 4]);
    end(3);
    end(4);
    await Promise.all(all);
  });

  it('whatever became of those before them', async () => {
    const admission = new Admission({ atOnce: 1, stallMs: LONG_MS });
    const failing = admission.run(HERE, () => Promise.reject(new Error('no')));
    const next = admission.run(HERE, () => Promise.resolve());
    await expect(failing).rejects.toThrow('no');
    await next;
  });

  it('never more than there are places', async () => {
    const admission = new Admission({ atOnce: 3, stallMs: LONG_MS });
    let [running, most] = [0, 0];
    await Promise.all(
      Array.from({ length: 500 }, () =>
        admission.run(HERE, async () => {
          running += 1;
          most = Math.max(most, running);
          await turn();
          running -= 1;
        }),
      ),
    );
    expect({ running, most }).toEqual({ running: 0, most: 3 });
  });
});

describe('what takes longer than the rest', () => {
  it('gives its place on when none ends for a while, and not a second time when it ends', async () => {
    const admission = new Admission({ atOnce: 2, stallMs: 20 });
    const { began, work, end } = works();
    const all = [0, 1, 2, 3].map((index) => admission.run(HERE, work(index)));
    expect(began).toEqual([0, 1]);
    while (began.length < 4) await sleep(2);
    all.push(...[4, 5].map((index) => admission.run(HERE, work(index))));
    end(0);
    end(1);
    await turn();
    // Those two had no place any more.
    expect(began).toEqual([0, 1, 2, 3]);
    end(2);
    end(3);
    await turn();
    expect(began).toEqual([0, 1, 2, 3, 4, 5]);
    end(4);
    end(5);
    await Promise.all(all);
  });

  it('keeps its place however long all take', async () => {
    const admission = new Admission({ atOnce: 2, stallMs: 200 });
    const { began, work, end } = works();
    const all = [0, 1, 2, 3, 4, 5].map((index) => admission.run(HERE, work(index)));
    for (const index of [1, 2]) {
      await sleep(125);
      end(index);
    }
    await sleep(125);
    // 0 has run for 375 ms, and nobody took its place.
    expect(began).toEqual([0, 1, 2, 3]);
    for (const next of [0, 3, 4, 5]) {
      end(next);
      await turn();
    }
    await Promise.all(all);
  });

  it('gives its place on once so many have come after it', async () => {
    const admission = new Admission({ atOnce: 2, stallMs: LONG_MS });
    const { began, work, end } = works();
    const all = [0, 1, 2, 3, 4, 5, 6].map((index) => admission.run(HERE, work(index)));
    for (const index of [1, 2]) {
      end(index);
      await turn();
    }
    expect(began).toEqual([0, 1, 2, 3]);
    end(3);
    await turn();
    // The fourth after it found a place, and so did one for which 0 had held it.
    expect(began).toEqual([0, 1, 2, 3, 4, 5]);
    for (const index of [0, 4, 5]) end(index);
    await turn();
    end(6);
    await Promise.all(all);
  });

  it('holds nobody up by ending after its place was given on', async () => {
    const admission = new Admission({ atOnce: 2, stallMs: 200 });
    const { began, work, end } = works();
    const all = [0, 1, 2, 3, 4].map((index) => admission.run(HERE, work(index)));
    while (began.length < 4) await sleep(2);
    const elapsed = stopwatch();
    // The ends of 0 and 1 bring no place back, so that 2 and 3 are found to hang as soon as without them.
    await sleep(100);
    end(0);
    await sleep(75);
    end(1);
    while (began.length < 5) await sleep(2);
    expect(elapsed()).toBeLessThan(350);
    for (const index of [2, 3, 4]) end(index);
    await Promise.all(all);
  });
});

describe('who goes away', () => {
  const caller = () => {
    const connection = Object.assign(new EventEmitter(), { destroyed: false });
    const leave = () => {
      connection.destroyed = true;
      connection.emit('close');
    };
    return { connection, leave };
  };

  it('while it waits leaves the line at once, and nothing is done for it', async () => {
    const admission = new Admission({ atOnce: 1, stallMs: LONG_MS });
    const { began, work, end } = works();
    const first = admission.run(HERE, work(0));
    const { connection, leave } = caller();
    const gone = admission.run(connection, work(1));
    const last = admission.run(HERE, work(2));
    leave();
    expect(await gone).toMatchObject({ code: 'malformed_request' });
    expect(await admission.run(connection, work(3))).toMatchObject({ code: 'malformed_request' });
    expect(connection.listenerCount('close')).toBe(0);
    end(0);
    expect(await first).toBeNull();
    await turn();
    expect(began).toEqual([0, 2]);
    end(2);
    expect(await last).toBeNull();
  });

  it('while it is worked for changes nothing, and no listener stays', async () => {
    const admission = new Admission({ atOnce: 1, stallMs: LONG_MS });
    const { began, work, end } = works();
    const first = admission.run(HERE, work(0));
    const { connection, leave } = caller();
    const second = admission.run(connection, work(1));
    end(0);
    await first;
    await turn();
    expect(connection.listenerCount('close')).toBe(0);
    leave();
    end(1);
    expect(await second).toBeNull();
    expect(began).toEqual([0, 1]);
  });
});

describe('an overload', () => {
  it('of more than can be done in half the time that one may wait is refused as it comes', async () => {
    const admission = new Admission({ atOnce: 4, stallMs: LONG_MS, deadlineMs: 200 });
    // 4 of 4 ms each: a thousand a second at most, a hundred in half the time; 8 come where 4 are done.
    const all: Promise<string>[] = [];
    for (let round = 0; round < 120; round += 1) {
      for (let index = 0; index < 8; index += 1) {
        const run = admission.run(HERE, () => sleep(4));
        all.push(run.then((refused) => refused?.code ?? 'done'));
      }
      await sleep(4);
    }
    const { waiting } = admission.figures();
    expect(waiting).toBeGreaterThan(4);
    expect(waiting).toBeLessThan(140);
    const { done = [], hsm_busy: busy = [] } = Object.groupBy(await Promise.all(all), (end) => end);
    expect(done.length + busy.length).toBe(all.length);
    expect(busy.length).toBeGreaterThan(100);
    expect(admission.figures()).toEqual({ underWay: 0, waiting: 0, refused: busy.length });
  });

  it('that came at once is refused once it has waited for the time, and says when to come again', async () => {
    const admission = new Admission({ atOnce: 1, stallMs: 20, deadlineMs: 60 });
    const { began, work, end } = works();
    // Each takes its place with it and gives it on after a stall, so that few have their turn in time.
    const all = Array.from({ length: 12 }, (_, index) => {
      return admission.run(HERE, work(index));
    });
    expect(admission.figures()).toEqual({ underWay: 1, waiting: 11, refused: 0 });
    expect(await all.at(-1)).toMatchObject({ code: 'hsm_busy', retryAfter: 1 });
    expect(began.length).toBeLessThan(8);
    expect(admission.figures()).toMatchObject({ waiting: 0, refused: 12 - began.length });
    for (const index of began) end(index);
    await Promise.all(all);
    expect(admission.figures().underWay).toBe(0);
  });

  it('that came at once is served where it can be in time', async () => {
    const admission = new Admission({ atOnce: 4, stallMs: LONG_MS, deadlineMs: 5_000 });
    const run = () => admission.run(HERE, () => turn());
    const all = await Promise.all(Array.from({ length: 5_000 }, run));
    expect(all.filter((refused) => refused !== null)).toEqual([]);
  });
});
