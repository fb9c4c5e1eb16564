/** That a sink is served is told also while its receiver is away, or it could be forgotten (`twofold audit forget-sink`). */
import { setTimeout as sleep } from 'node:timers/promises';

import { expect, it } from '@jest/globals';

import { Sinks } from '../../src/main/sinks.ts';
import type { SinksParts } from '../../src/main/sinks.ts';
import { Unwinding } from '../../src/main/unwinding.ts';
import { memoryEntries, MemoryPosition } from '../audit/sinks/sample-records.ts';

it('says where it stands after a delivery that failed', async () => {
  const stays: number[] = [];
  const position = Object.assign(new MemoryPosition(), {
    at: 3,
    stay: (at: number) => {
      stays.push(at);
      return Promise.resolve();
    },
  });
  const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const sinks = new Sinks({
    settings: [{ type: 'http', name: 'away', from: 'start', url: 'http://127.0.0.1:1/' }],
    store: {
      log: { ...memoryEntries(10), head: () => Promise.resolve({ size: 10 }) },
      sinks: { position: () => position, all: () => Promise.resolve([]) },
      scheduler: {
        leadership: () => Promise.resolve({ term: 0, holder: null, beat: 0 }),
        takeLeadership: () => Promise.resolve({ term: 1, holder: 'me', beat: 1 }),
        beat: () => Promise.resolve(true),
      },
    },
    audit: { recordOwn: () => Promise.resolve() },
    incarnation: { id: 'me', end: null },
    first: true,
    log: silent,
  } as unknown as SinksParts);
  const unwinding = new Unwinding(() => undefined);
  sinks.start(unwinding);
  while (stays.length === 0) await sleep(10);
  await unwinding.unwind();
  expect(stays[0]).toBe(3);
  expect(position.at).toBe(3);
});
