/** Who serves a sink: whoever has it and reaches it; and that it is told, or it could be forgotten (`twofold audit forget-sink`). */
import { setTimeout as sleep } from 'node:timers/promises';

import { expect, it } from '@jest/globals';

import type { Leadership } from '../../src/leader.ts';
import { Sinks } from '../../src/main/sinks.ts';
import type { SinksParts } from '../../src/main/sinks.ts';
import { Unwinding } from '../../src/main/unwinding.ts';
import { memoryEntries, MemoryPosition } from '../audit/sinks/sample-records.ts';

/** The network's sinks of these names, whose receiver is away, beside others who lead the roles that are given. */
function opened(names: readonly string[], leaders: Map<string, Leadership>, giveWayMs?: number) {
  const stays: string[] = [];
  const taken: string[] = [];
  const positionOf = (name: string) =>
    Object.assign(new MemoryPosition(), {
      at: 3,
      stay: (at: number) => Promise.resolve(void stays.push(`${name} ${String(at)}`)),
    });
  const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const leadership = (role: string) => leaders.get(role) ?? { term: 0, holder: null, beat: 0 };
  const sinks = new Sinks({
    settings: names.map((name) => ({
      ...{ type: 'http', name, from: 'start', url: 'http://127.0.0.1:1/' },
    })),
    store: {
      log: { head: () => Promise.resolve({ size: 10 }) },
      logCopy: memoryEntries(10),
      sinks: { position: positionOf, all: () => Promise.resolve([]) },
      scheduler: {
        leadership: (role: string) => Promise.resolve(leadership(role)),
        takeLeadership: (role: string, seen: Leadership, holder: string | null) => {
          taken.push(`${role} ${String(holder)}`);
          leaders.set(role, { term: seen.term + 1, holder, beat: 1 });
          return Promise.resolve(leadership(role));
        },
        beat: () => Promise.resolve(true),
      },
    },
    audit: { recordOwn: () => Promise.resolve() },
    incarnation: { id: 'me', end: null },
    first: true,
    log: silent,
    giveWayMs,
  } as unknown as SinksParts);
  const unwinding = new Unwinding(() => undefined);
  sinks.start(unwinding);
  return { sinks, stays, taken, end: () => unwinding.unwind() };
}

const THEIRS: Leadership = { term: 4, holder: 'another', beat: 7 };

it('says where it stands after a delivery that failed', async () => {
  const { stays, end } = opened(['away'], new Map());
  while (stays.length === 0) await sleep(10);
  await end();
  expect(stays[0]).toBe('away 3');
});

it('serves each sink that nobody else serves, whoever serves others', async () => {
  const { sinks, stays, taken, end } = opened(['a', 'b'], new Map([['sinks/a', THEIRS]]));
  while (stays.length === 0) await sleep(10);
  expect(sinks.facts().map(({ name, state }) => [name, state])).toEqual([
    ['a', 'waiting'],
    ['b', 'failing'],
  ]);
  await end();
  expect([taken, stays]).toEqual([['sinks/b me', 'sinks/b null'], ['b 3']]);
});

it('leaves one whose receiver it does not reach to another', async () => {
  const { sinks, taken, end } = opened(['a'], new Map(), 0);
  while (taken.length < 2) await sleep(10);
  expect(taken).toEqual(['sinks/a me', 'sinks/a null']);
  expect(sinks.facts()).toMatchObject([{ state: 'failing' }]);
  await end();
});

it('waits while an instance of the release before serves all', async () => {
  const leaders = new Map([['sinks', THEIRS]]);
  const { sinks, taken, end } = opened(['a'], leaders);
  await sleep(100);
  expect([taken, sinks.facts()]).toMatchObject([[], [{ state: 'waiting' }]]);
  leaders.set('sinks', { ...THEIRS, holder: null });
  while (taken.length === 0) await sleep(10);
  expect(taken).toEqual(['sinks/a me']);
  await end();
});

it('leaves all to an instance of the release before that begins to serve', async () => {
  const leaders = new Map<string, Leadership>();
  const { taken, end } = opened(['a'], leaders);
  while (taken.length === 0) await sleep(10);
  leaders.set('sinks', THEIRS);
  while (taken.length < 2) await sleep(10);
  expect(taken).toEqual(['sinks/a me', 'sinks/a null']);
  await end();
});
