import { describe, expect, it } from '@jest/globals';

import { boundsOf } from '../../bench/bounds.ts';
import { compareReports, renderChanges, renderComparison } from '../../bench/compare.ts';
import { renderHtml } from '../../bench/html.ts';
import { benchReport, rawRate, renderText } from '../../bench/report.ts';
import type { BenchReport, Measurement } from '../../bench/report.ts';

const unwrap: Measurement = {
  operation: 'hybrid unwrap',
  transport: 'http',
  placement: 'shared',
  inFlight: 16,
  arrivals: null,
  perSecond: 2_000,
  itemsPerSecond: 2_000,
  p50: 4,
  p99: 12,
  p999: 30,
  raw: 'derive P-256',
  ratio: 0.25,
  cpu: { server: 600, database: 80, load: 40 },
};

const report = (measurements: readonly Measurement[]): BenchReport => ({
  version: 1,
  at: '2026-01-01T00:00:00.000Z',
  machine: { cores: 2, processor: 'a <b>', node: '26', openssl: '3.5', token: 'SoftHSM v2' },
  seconds: 4,
  raw: [{ name: 'derive P-256', of: 'token, 1 process(es)', processes: 1, perSecond: 8_000 }],
  measurements: [...measurements],
  steps: [{ step: 'combiner', microseconds: 3.4 }],
  bounds: [...boundsOf({ measurements: [...measurements] })],
});

describe('a report', () => {
  it('is read back as it was written, and nothing else is taken', () => {
    const given = report([unwrap]);
    expect(benchReport.parse(JSON.parse(JSON.stringify(given)))).toEqual(given);
    expect(benchReport.safeParse({ ...given, version: 2 }).success).toBe(false);
    expect(benchReport.safeParse({ ...given, more: 1 }).success).toBe(false);
  });

  it('holds the figures against their bounds, and leaves out what was not measured', () => {
    expect(boundsOf({ measurements: [] })).toEqual([]);
    const single = { ...unwrap, inFlight: 1, p50: 0.9 };
    const secured = { ...unwrap, transport: 'https', perSecond: 1_300 } as const;
    expect(boundsOf(report([unwrap, single, secured])).map(({ met }) => met)).toEqual([
      false,
      true,
      false,
    ]);
  });

  it('knows a raw limit by name and number of processes', () => {
    const { raw } = report([]);
    expect(rawRate(raw, 'derive P-256')).toBe(8_000);
    expect(() => rawRate(raw, 'derive P-256', 2)).toThrow();
  });

  it('is one page that loads nothing, and escapes what it shows', () => {
    const html = renderHtml(report([unwrap, { ...unwrap, inFlight: 1 }]));
    expect(html).not.toMatch(/<script|https?:|src=|url\(|NaN|undefined|Infinity/u);
    expect(html).toContain('a &lt;b&gt;');
    expect(html.match(/<svg/gu)).toHaveLength(3);
    expect(renderHtml(report([]))).not.toMatch(/NaN|undefined|Infinity/u);
    expect(renderText(report([unwrap]))).not.toMatch(/NaN|undefined/u);
  });
});

describe('a comparison', () => {
  const before = report([unwrap, { ...unwrap, inFlight: 64 }]);

  it('is of what both runs measured, by ratio and processor time', () => {
    const faster = { ...unwrap, ratio: 0.3, cpu: { ...unwrap.cpu, server: 500 } };
    const changes = compareReports(before, report([faster]));
    expect(changes.map(({ verdict }) => verdict)).toEqual(['better']);
    expect(renderChanges(changes)).toContain('+20 %');
  });

  it('says what the two runs do not share', () => {
    const same = report([unwrap]);
    expect(renderComparison(same, same)).toBe(renderChanges(compareReports(same, same)));
    const machine = { ...before.machine, cores: 4, node: '27' };
    const lines = renderComparison(before, { ...report([unwrap]), machine, seconds: 0.4 });
    expect(lines.split('\n').slice(0, 5)).toEqual([
      'another cores: 2, now 4',
      'another node: 26, now 27',
      '4 s for each figure, now 0.4 s',
      '1 figures are in the first report alone',
      expect.stringContaining('| operation'),
    ]);
  });

  it.each([
    [0.2, 600, 'worse'],
    [0.25, 700, 'worse'],
    [0.26, 580, 'same'],
    [0.3, 700, 'mixed'],
  ])('of ratio %p and %p µs is %s', (ratio, server, verdict) => {
    const after = report([{ ...unwrap, ratio, cpu: { ...unwrap.cpu, server } }]);
    expect(compareReports(before, after)[0]?.verdict).toBe(verdict);
  });
});
