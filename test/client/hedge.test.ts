/** One request to several places: when which is asked, who wins, and what is left behind. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';

import { hedged } from '../../src/client/hedge.ts';
import type { HedgeTimes } from '../../src/client/hedge.ts';

/** A tenth of the real ones. */
const TIMES: HedgeTimes = { hedgeMs: 40, budgetMs: 240, leastMs: 30, pauseMs: 25 };
const NEVER = new AbortController().signal;

/** What a place does at each attempt: answers after a time, fails, or says nothing. */
type Act =
  { readonly after: number } | { readonly fails: string; readonly after?: number } | 'silent';

interface Attempt {
  readonly place: string;
  readonly at: number;
  ended: boolean;
}

function playing(
  acts: Readonly<Record<string, readonly Act[]>>,
  { signal = NEVER, times = TIMES }: { signal?: AbortSignal; times?: HedgeTimes } = {},
) {
  const attempts: Attempt[] = [];
  const dropped: string[] = [];
  const began = performance.now();
  const attempt = async (place: string, ending: AbortSignal): Promise<string> => {
    const nth = attempts.filter((each) => each.place === place).length;
    const noted = { place, at: performance.now() - began, ended: false };
    attempts.push(noted);
    ending.addEventListener('abort', () => (noted.ended = true));
    const all = acts[place] ?? [];
    const act = all[Math.min(nth, all.length - 1)] ?? 'silent';
    if (act === 'silent') return new Promise(() => undefined);
    await sleep(act.after ?? 0);
    if ('fails' in act) throw new Error(act.fails);
    return place;
  };
  const result = hedged(
    {
      places: Object.keys(acts),
      attempt,
      passes: (error) => !(error as Error).message.startsWith('for good'),
      drop: (late) => dropped.push(late),
      late: (error) => error ?? new Error('late'),
      times,
    },
    signal,
  );
  return { result, attempts, dropped, elapsed: () => performance.now() - began };
}

describe('a hedged request', () => {
  it('asks the first alone where it answers', async () => {
    const { result, attempts } = playing({ a: [{ after: 5 }], b: [{ after: 5 }] });
    expect(await result).toEqual({ value: 'a', place: 'a', silent: [] });
    await sleep(60);
    expect(attempts.map(({ place }) => place)).toEqual(['a']);
  });

  it('asks the next after a silence, takes the first answer and drops the other', async () => {
    const { result, attempts, dropped } = playing({ a: [{ after: 400 }], b: [{ after: 20 }] });
    expect(await result).toEqual({ value: 'b', place: 'b', silent: ['a'] });
    expect(attempts.map(({ place }) => place)).toEqual(['a', 'b']);
    expect(attempts[1]?.at).toBeGreaterThanOrEqual(38);
    expect(attempts.every(({ ended }) => ended)).toBe(true);
    await sleep(450);
    expect(dropped).toEqual(['a']);
  });

  it('asks the next at once where one fails', async () => {
    const times = { ...TIMES, hedgeMs: 200 };
    const acts = { a: [{ fails: 'away' }], b: [{ after: 1 }] };
    const { result, attempts } = playing(acts, { times });
    expect(await result).toMatchObject({ place: 'b', silent: ['a'] });
    expect(attempts[1]?.at).toBeLessThan(190);
  });

  it('ends with what fails for good', async () => {
    const { result, attempts } = playing({ a: [{ fails: 'for good' }], b: [{ after: 1 }] });
    await expect(result).rejects.toThrow('for good');
    expect(attempts).toHaveLength(1);
  });

  it('asks again after a pause where all have failed', async () => {
    const { result, attempts } = playing({
      a: [{ fails: 'away' }, { after: 1 }],
      b: [{ fails: 'away' }],
    });
    expect(await result).toMatchObject({ place: 'a' });
    expect(attempts.map(({ place }) => place)).toEqual(['a', 'b', 'a']);
    expect(attempts[2]?.at).toBeGreaterThanOrEqual(23);
  });

  it.each<[string, Readonly<Record<string, readonly Act[]>>]>([
    ['fail', { a: [{ fails: 'away' }], b: [{ fails: 'gone' }] }],
    ['are silent', { a: ['silent'], b: ['silent'] }],
    ['fail or are silent', { a: ['silent'], b: [{ fails: 'gone' }] }],
  ])('says why within the budget where all %s', async (_name, acts) => {
    const { result, attempts, elapsed } = playing(acts);
    await expect(result).rejects.toThrow(/away|gone|late/u);
    expect(elapsed()).toBeLessThan(1_000);
    // Nothing is begun that could not end, and of those that fail none is asked without a pause.
    for (const { at } of attempts) expect(at).toBeLessThanOrEqual(215);
    expect(attempts.length).toBeLessThanOrEqual(24);
    const before = attempts.length;
    await sleep(60);
    expect(attempts).toHaveLength(before);
    expect(attempts.every(({ ended }) => ended)).toBe(true);
  });

  it('ends when nobody waits any more', async () => {
    const asked = new AbortController();
    const { result } = playing({ a: ['silent'] }, { signal: asked.signal });
    asked.abort(new Error('nobody waits'));
    await expect(result).rejects.toThrow('nobody waits');
    const late = playing({ a: [{ after: 0 }] }, { signal: asked.signal });
    await expect(late.result).rejects.toThrow('nobody');
  });
});
