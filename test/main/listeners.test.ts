import { expect, it } from '@jest/globals';

import { loadConfig } from '../../src/config.ts';
import { listenersOf } from '../../src/main/listeners.ts';
import type { Membership } from '../../src/main/workers/membership.ts';

const config = loadConfig({
  environment: { TWOFOLD_LIMITS_UNAUTHENTICATED_PER_MINUTE: '10' },
  flags: new Map([
    ['mode', 'dev'],
    ['workers', '4'],
  ]),
});
const source = { open: () => Promise.reject(new Error('not here')), close: () => undefined };
const member = { of: 4, source: () => source } as unknown as Membership;

it('a worker has its share of what a source may do, and no socket of its own', () => {
  expect(config.workers).toBe(4);
  const alone = listenersOf(config, null);
  expect(alone.limits?.unauthenticatedPerMinute).toBe(10);
  expect(alone.http.source).toBeUndefined();
  const shared = listenersOf(config, member);
  expect(shared.limits?.unauthenticatedPerMinute).toBe(3);
  expect([shared.http.source, shared.metrics?.source]).toEqual([source, source]);
});
