import { describe, expect, it } from '@jest/globals';

import { statusDocument } from '../../src/contract/status.ts';
import { wholeStatus } from '../../src/main/workers/whole-status.ts';
import { sampleStatus } from '../http/sample-status.ts';

const series = (values: readonly (number | null)[]) => [...values];
const history = (values: readonly (number | null)[]) => {
  const all = () => series(values);
  return {
    ...sampleStatus().history,
    requests: { wrap: all(), sign: all(), mac: all(), admin: all(), other: all() },
    ...{ refused: all(), failed: all(), p50: all(), p99: all(), queued: all() },
  };
};
const worker = (number: number) => ({
  worker: number,
  instance: null,
  ready: true,
  state: 'ok',
  uptimeSeconds: 1,
  connections: 0,
  restarts: 0,
});

describe('the status of several workers', () => {
  const sinksOfTwo = [{ name: 'lake', state: 'failing' as const, behind: 12 }];
  const one = sampleStatus({ history: history([1, 2, null, 3]) });
  const two = sampleStatus({
    uptimeSeconds: 5,
    history: history([null, 10]),
    hsm: { ...one.hsm, state: 'token-absent', queued: 5 },
    audit: { ...one.audit, state: 'not-durable', failures: 9, waiting: 2, sinks: sinksOfTwo },
  });
  const readiness = { ...one.readiness, workers: { ready: 1, of: 2 } };
  const whole = wholeStatus(one, [one, two], readiness, [worker(1), worker(2)]);

  it('is of the form of one', () => {
    expect(statusDocument.parse(whole)).toEqual(whole);
  });

  it('adds what adds up and shows the worst of the rest', () => {
    expect(whole).toMatchObject({
      readiness: { ready: true, workers: { ready: 1, of: 2 } },
      uptimeSeconds: one.uptimeSeconds,
      instance: one.instance,
      hsm: {
        state: 'token-absent',
        queued: one.hsm.queued + 5,
        queueLimit: 2 * one.hsm.queueLimit,
      },
      uses: { underWay: 160, waiting: 2_408, refused: 62 },
      audit: {
        state: 'not-durable',
        uses: { number: null, durable: 2 * one.audit.uses.durable },
        failures: 9,
        sinks: [{ name: 'here', state: 'serving', behind: 0 }, ...sinksOfTwo],
      },
    });
    expect(whole.workers?.map(({ worker: number }) => number)).toEqual([1, 2]);
  });

  it('joins histories at their latest step', () => {
    expect(whole.history.requests.wrap).toEqual([1, 2, null, 13]);
    expect(whole.history.queued).toEqual([1, 2, null, 13]);
    expect(whole.history.p99).toEqual([1, 2, null, 10]);
  });
});
