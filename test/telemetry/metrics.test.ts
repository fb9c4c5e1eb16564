import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import type { Metrics } from '../../src/telemetry/metrics.ts';

const MARK = 'marker-7f3a9c';
let metrics: Metrics;
beforeEach(() => {
  metrics = createMetrics({ version: '1.2.3', routes: ['keys.unwrap', 'whoami'] });
});
afterEach(() => metrics.close());

const text = async (): Promise<string> => (await metrics.renderMetrics()).body;
const value = async (line: string): Promise<number | undefined> => {
  const found = (await text()).split('\n').find((each) => each.startsWith(`${line} `));
  return found === undefined ? undefined : Number(found.slice(line.length + 1));
};
const request = { route: 'keys.unwrap', method: 'POST', status: 200, code: null, milliseconds: 3 };

describe('metrics', () => {
  it('are Prometheus text of our names alone', async () => {
    const { contentType, body } = await metrics.renderMetrics();
    expect(contentType).toMatch(/^text\/plain; version=0\.0\.4/u);
    for (const line of body.split('\n').filter((each) => each !== '')) {
      expect(line).toMatch(/^(# (HELP|TYPE) )?twofold_[a-z_]+(\{[^}]*\})? ?/u);
    }
    expect(await value('twofold_build_info{version="1.2.3"}')).toBe(1);
  });

  it('count requests by route, method and status', async () => {
    metrics.request(request);
    metrics.request({ ...request, status: 422, code: 'decryption_failed' });
    metrics.request({ ...request, milliseconds: 40 });
    const seconds = 'twofold_http_request_seconds';
    const labels = 'route="keys.unwrap",method="POST",status="200"';
    expect(await value(`${seconds}_count{${labels}}`)).toBe(2);
    expect(await value(`${seconds}_sum{${labels}}`)).toBeCloseTo(0.043);
    expect(await value(`${seconds}_bucket{le="0.005",${labels}}`)).toBe(1);
    const errors = 'twofold_http_errors_total';
    expect(await value(`${errors}{route="keys.unwrap",code="decryption_failed"}`)).toBe(1);
  });

  it('count HSM calls and audit batches', async () => {
    metrics.hsm('ecdh', 'ok', 1);
    metrics.hsm('ecdh', 'hsm_busy', 1);
    metrics.auditAppend(30, 'ok', 2);
    metrics.auditAppend(10, 'database_unavailable', 2);
    expect(await value('twofold_hsm_call_seconds_count{operation="ecdh",outcome="ok"}')).toBe(1);
    expect(await value('twofold_hsm_call_seconds_count{operation="ecdh",outcome="hsm_busy"}')).toBe(
      1,
    );
    expect(await value('twofold_audit_append_seconds_count{outcome="ok"}')).toBe(1);
    expect(await value('twofold_audit_batch_entries_sum')).toBe(40);
  });

  it('have no label that a caller chose', async () => {
    for (const route of [MARK, null, '__proto__', 'constructor']) {
      metrics.request({ ...request, route, method: MARK, code: MARK });
    }
    metrics.hsm('ecdh', MARK, 1);
    metrics.auditAppend(1, MARK, 1);
    const body = await text();
    expect(body).not.toContain(MARK);
    expect(body).not.toMatch(/__proto__|constructor/u);
    const labels = 'route="none",method="other",status="200"';
    expect(await value(`twofold_http_request_seconds_count{${labels}}`)).toBe(4);
  });

  it('read gauges when they are asked for', async () => {
    let depth = 3;
    metrics.gauge('audit_queue_entries', 'Waiting entries.', () => depth);
    metrics.gauge('cache_entries', 'Entries of caches.', () => ({ tokens: depth, decisions: 9 }));
    expect(await value('twofold_audit_queue_entries')).toBe(3);
    depth = 4;
    expect(await value('twofold_audit_queue_entries')).toBe(4);
    expect(await value('twofold_cache_entries{kind="tokens"}')).toBe(4);
    expect(await value('twofold_cache_entries{kind="decisions"}')).toBe(9);
    expect(() => metrics.gauge('Queue depth', '', () => 1)).toThrow(TypeError);
  });

  it('show the event loop, memory and processor', async () => {
    // Once at least: what else the machine does delays the loop, too.
    let usual = Infinity;
    for (let tries = 0; usual >= 0.02 && tries < 100; tries += 1) {
      await text();
      await new Promise((later) => setTimeout(later, 60));
      usual = (await value('twofold_event_loop_delay_seconds{kind="p50"}')) ?? Infinity;
    }
    expect(usual).toBeLessThan(0.02);
    // The first beat after a reading only begins a sample.
    await new Promise((later) => setTimeout(later, 60));
    const until = performance.now() + 120;
    while (performance.now() < until);
    await new Promise((later) => setTimeout(later, 40));
    expect(await value('twofold_event_loop_delay_seconds{kind="max"}')).toBeGreaterThan(0.05);
    expect(await value('twofold_memory_bytes{kind="resident"}')).toBeGreaterThan(1e7);
    expect(await value('twofold_cpu_seconds{kind="user"}')).toBeGreaterThan(0);
    expect(await value('twofold_uptime_seconds')).toBeGreaterThan(0);
  });

  it('are apart in two registries', async () => {
    const other = createMetrics({ version: '2', routes: [] });
    other.request(request);
    expect(await text()).not.toContain('twofold_http_request_seconds_count');
    other.close();
  });
});
