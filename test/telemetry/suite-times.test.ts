import { describe, expect, it } from '@jest/globals';

import { SuiteTimes } from '../../src/telemetry/suite-times.ts';

describe('times of suites', () => {
  it('are medians by suite and operation, in the order of operations', () => {
    const times = new SuiteTimes();
    for (const ms of [1, 2, 100]) times.record('A256GCM', 'wrap', ms);
    times.record('A256GCM', 'unwrap', 8);
    times.record('HS256', 'mac', 1);
    const [unwrap, wrap] = times.of('A256GCM');
    expect(unwrap).toMatchObject({ operation: 'unwrap', count: 1 });
    expect(wrap).toMatchObject({ operation: 'wrap', count: 3 });
    expect(Math.abs((wrap?.medianMs ?? 0) / 2 - 1)).toBeLessThan(0.05);
    expect(times.of('HS512')).toEqual([]);
  });
});
