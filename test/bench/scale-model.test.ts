/** The scale model: another input is another answer, and figures that are missing are not made up. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, it } from '@jest/globals';

import type { BenchReport, Measurement } from '../../bench/report.ts';
import {
  figuresOf,
  modelOf,
  mostRequests,
  publishedFigures,
  renderModel,
  scaleOf,
  WANTED,
} from '../../bench/scale-model.ts';
import type { Scale } from '../../bench/scale-model.ts';

const row = (operation: string, server: number, database: number): Measurement => ({
  ...{ operation, transport: 'http', placement: 'shared', inFlight: 16, arrivals: null },
  ...{ perSecond: 2_000, itemsPerSecond: 2_000, p50: 4, p99: 12, p999: 30, ratio: 0.25 },
  ...{ raw: 'derive P-256', cpu: { server, database, load: 40 } },
});
const raw = (name: 'derive P-256' | 'AES-GCM decrypt', perSecond: number) => ({
  ...{ name, of: 'token', processes: 1, perSecond },
});
const REPORT: BenchReport = {
  ...{ version: 1, at: '2026-01-01T00:00:00.000Z', seconds: 4, steps: [], bounds: [] },
  machine: { cores: 2, processor: 'a', node: '26', openssl: '3.5', token: 'SoftHSM v2' },
  raw: [raw('derive P-256', 5_000), raw('AES-GCM decrypt', 50_000)],
  measurements: [row('hybrid unwrap', 900, 150), row('A256GCM unwrap', 400, 90)],
};

const FIGURES = figuresOf(REPORT);

const use = (scale: Scale, what: string, report = REPORT): number =>
  modelOf(figuresOf(report), scale).find((each) => each.what === what)?.use ?? NaN;

it('holds each demand against its capacity, in the order in which they saturate', () => {
  const resources = modelOf(FIGURES, WANTED);
  const uses = resources.map((each) => each.use);
  expect(uses).toEqual(uses.toSorted((a, b) => b - a));
  // 50,000 of 900 µs and 50,000 of 400 µs on 800 cores.
  expect(use(WANTED, 'processors of the instances')).toBeCloseTo(65 / 800);
  // 5,000 derivations and 5,000 decryptions a second in each of ten zones.
  expect(use(WANTED, 'HSM of a zone')).toBeCloseTo(1.1);
  expect(use(WANTED, 'order of the audit log')).toBeCloseTo(100 / 42);
  // 124 MB of log a second to each of nine servers.
  expect(use(WANTED, 'network of the primary')).toBeCloseTo((0.124 * 9) / 1.25);
  // A day of 100,000 entries a second, beside half a terabyte of keys.
  expect(use(WANTED, 'storage of the entries')).toBeCloseTo((1e5 * 977 * 86_400) / 9.5e12);
  expect(use(WANTED, 'storage of the keys')).toBeCloseTo(0.05);
  expect(renderModel(FIGURES, WANTED)).toContain(
    'First to saturate: order of the audit log, at 238 %. Most requests a second: 42,000.',
  );
});

it('answers otherwise when any input is another', () => {
  const before = JSON.stringify(modelOf(FIGURES, WANTED));
  for (const name of Object.keys(WANTED) as (keyof Scale)[]) {
    const scale = { ...WANTED, [name]: WANTED[name] * 0.5 };
    expect([name, JSON.stringify(modelOf(FIGURES, scale)) === before]).toEqual([name, false]);
  }
  // More requests do not come of more connections.
  const crowded = { ...WANTED, connectionsPerInstance: 1_000 };
  expect(modelOf(FIGURES, crowded)[0]?.what).toBe('connections of the primary');
  expect(mostRequests(crowded, modelOf(FIGURES, crowded))).toBeCloseTo(42_000);
  const slower = { ...REPORT, raw: [raw('derive P-256', 500), raw('AES-GCM decrypt', 50_000)] };
  expect(modelOf(figuresOf(slower), WANTED)[0]?.what).toBe('HSM of a zone');
  const costly = {
    ...REPORT,
    measurements: [row('hybrid unwrap', 9e4, 1), row('A256GCM unwrap', 1, 1)],
  };
  expect(modelOf(figuresOf(costly), WANTED)[0]?.what).toBe('processors of the instances');
});

it('takes changes by name, and makes nothing up', () => {
  expect(scaleOf(['zones=3', 'hybridShare=0'])).toEqual({ ...WANTED, zones: 3, hybridShare: 0 });
  for (const wrong of [
    'zones',
    'zones=',
    'zones=0',
    'zone=3',
    'zones=x',
    'hybridShare=2',
    'toString=1',
  ]) {
    expect(() => scaleOf([wrong])).toThrow('is none of');
  }
  expect(() => figuresOf({ ...REPORT, measurements: [] })).toThrow('no measurement of hybrid');
  expect(() => figuresOf({ ...REPORT, raw: [] })).toThrow('no raw rate of derive P-256');
});

const page = (name: string): string =>
  readFileSync(join(import.meta.dirname, '../..', name), 'utf8');
/** Tables are padded by the formatter. */
const plain = (text: string): string => text.replaceAll(/ +/gu, ' ').replaceAll(/-{3,}/gu, '---');

it('docs/scale.md says what comes of the figures in README.md: npm run model -- README.md', () => {
  const figures = publishedFigures(page('README.md'));
  for (const each of [figures.hybrid, figures.symmetric]) {
    expect(each.server).toBeGreaterThan(each.database);
  }
  expect(figures.opens).toBeGreaterThan(figures.derives);
  for (const part of renderModel(figures, WANTED).split('\n\n')) {
    expect(plain(page('docs/scale.md'))).toContain(plain(part));
  }
  expect(() => publishedFigures('| hybrid unwrap | 1 |')).toThrow('the page does not say');
});
