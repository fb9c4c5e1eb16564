import { SpanStatusCode, trace } from '@opentelemetry/api';
import type { Attributes, Span, SpanOptions, SpanStatus, Tracer } from '@opentelemetry/api';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import { createLogs } from '../../src/telemetry/logs.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import type { Metrics } from '../../src/telemetry/metrics.ts';
import { observed, requestObserver } from '../../src/telemetry/observation.ts';
import { traced } from '../../src/telemetry/tracing.ts';
import type { SpanAttributes } from '../../src/telemetry/tracing.ts';

const MARK = 'marker-7f3a9c';

interface Seen {
  readonly name: string;
  readonly attributes: Attributes;
  status: SpanStatus | undefined;
  ended: boolean;
  readonly milliseconds: number | undefined;
}

/** The smallest tracer that keeps what it is given; anything but these calls fails. */
function recordingTracer(seen: Seen[]): Tracer {
  const startSpan = (name: string, options: SpanOptions = {}): Span => {
    const { attributes = {}, startTime } = options;
    const milliseconds = typeof startTime === 'number' ? Date.now() - startTime : undefined;
    const record: Seen = { name, attributes, status: undefined, ended: false, milliseconds };
    seen.push(record);
    const setStatus = (status: SpanStatus) => (record.status = status);
    const end = () => (record.ended = true);
    return { setStatus, end } as unknown as Span;
  };
  const startActiveSpan = (name: string, options: SpanOptions, act: (span: Span) => unknown) =>
    act(startSpan(name, options));
  return { startSpan, startActiveSpan } as unknown as Tracer;
}

const seen: Seen[] = [];
let lines: string[];
let metrics: Metrics;
beforeAll(() => {
  trace.setGlobalTracerProvider({ getTracer: () => recordingTracer(seen) });
});
afterAll(() => trace.disable());
beforeEach(() => {
  seen.length = 0;
  lines = [];
  metrics = createMetrics({ version: '1', routes: ['keys.unwrap'] });
});
afterEach(() => metrics.close());

describe('a span', () => {
  it('ends with what it is around, and shows the listed attributes only', async () => {
    const attributes = { operation: 'ecdh', entries: 3, suite: undefined, plaintext: MARK };
    const result = await traced('hsm.ecdh', attributes as SpanAttributes, () => Promise.resolve(7));
    expect(result).toBe(7);
    expect(seen).toEqual([
      {
        name: 'hsm.ecdh',
        attributes: { 'twofold.operation': 'ecdh', 'twofold.entries': 3 },
        status: undefined,
        ended: true,
        milliseconds: undefined,
      },
    ]);
  });

  it('of a failure shows its code and nothing else', async () => {
    const failures = [new TwofoldError('hsm_busy', MARK), new Error(MARK)];
    for (const error of failures) {
      await expect(traced('x', {}, () => Promise.reject(error))).rejects.toBe(error);
    }
    expect(seen.map(({ status, ended }) => [status, ended])).toEqual([
      [{ code: SpanStatusCode.ERROR, message: 'hsm_busy' }, true],
      [{ code: SpanStatusCode.ERROR, message: 'internal' }, true],
    ]);
    expect(JSON.stringify(seen)).not.toContain(MARK);
  });

  it('bounds what it shows', async () => {
    await traced('x', { route: 'r'.repeat(1_000) }, () => Promise.resolve());
    expect(String(seen[0]?.attributes['http.route'])).toHaveLength(128);
  });
});

describe('an observed request', () => {
  const facts = {
    requestId: 'r-1',
    route: 'keys.unwrap',
    method: 'POST',
    status: 200,
    code: null,
    auditId: '1-2',
    source: '127.0.0.1',
    milliseconds: 12,
    error: undefined,
  };
  const observer = (level: 'debug' | 'info' = 'debug') => {
    const destination = { write: (line: string) => void lines.push(line) };
    return requestObserver(
      createLogs({ level, sensitive: [], destination }).component('http'),
      metrics,
    );
  };
  const logged = () => lines.map((line) => JSON.parse(line) as Record<string, unknown>);

  it('becomes a figure, a span and a line', async () => {
    observer()(facts);
    expect((await metrics.renderMetrics()).body).toContain(
      'twofold_http_request_seconds_count{route="keys.unwrap",method="POST",status="200"} 1',
    );
    expect(seen[0]).toMatchObject({
      name: 'request',
      ended: true,
      status: undefined,
      attributes: {
        'http.request.method': 'POST',
        'http.response.status_code': 200,
        'http.route': 'keys.unwrap',
        'twofold.audit_id': '1-2',
        'twofold.outcome': 'ok',
        'twofold.request_id': 'r-1',
      },
    });
    expect(seen[0]?.milliseconds).toBeGreaterThanOrEqual(12);
    expect(logged()).toEqual([expect.objectContaining({ level: 'debug', requestId: 'r-1' })]);
  });

  it('is not logged above debug unless the service failed', () => {
    const report = observer('info');
    report(facts);
    report({ ...facts, status: 401, code: 'token_invalid', route: null, auditId: null });
    expect(lines).toEqual([]);
    expect(seen[1]?.status).toBeUndefined();
    report({ ...facts, status: 500, code: 'internal', error: new Error(MARK) });
    expect(logged()).toEqual([
      expect.objectContaining({ level: 'error', outcome: 'internal', err: expect.anything() }),
    ]);
    expect(seen[2]?.status).toEqual({ code: SpanStatusCode.ERROR, message: 'internal' });
    expect(lines.join('') + JSON.stringify(seen)).not.toContain(MARK);
  });
});

describe('an observed port', () => {
  class Port {
    readonly #factor = 2;
    count = 0;

    async double(value: number): Promise<number> {
      this.count += 1;
      return value * this.#factor;
    }
    async fail(): Promise<never> {
      throw new TwofoldError('hsm_busy', String(this.#factor));
    }
    async settle(): Promise<readonly unknown[]> {
      return [1, new TwofoldError('hsm_busy'), new TwofoldError('decryption_failed')];
    }
    factor(): number {
      return this.#factor;
    }
    refuse(): Promise<never> {
      throw new TwofoldError('invalid_value', String(this.#factor));
    }
  }

  it('is the same port, whose calls are told', async () => {
    const calls: unknown[] = [];
    const target = new Port();
    const port = observed(
      target,
      'hsm',
      ['double', 'fail', 'settle'],
      (method, args, outcome, milliseconds) => {
        calls.push([method, args, outcome]);
        expect(milliseconds).toBeGreaterThanOrEqual(0);
      },
    );
    expect(await port.double(21)).toBe(42);
    await expect(port.fail()).rejects.toMatchObject({ code: 'hsm_busy' });
    expect(await port.settle()).toHaveLength(3);
    expect([port.factor(), port.count, target.count]).toEqual([2, 1, 1]);
    expect(calls).toEqual([
      ['double', [21], 'ok'],
      ['fail', [], 'hsm_busy'],
      ['settle', [], 'hsm_busy'],
    ]);
    expect(seen.map(({ name }) => name)).toEqual(['hsm.double', 'hsm.fail', 'hsm.settle']);
  });

  it('tells and rejects what a call throws at once', async () => {
    const outcomes: string[] = [];
    const port = observed(new Port(), 'hsm', ['refuse'], (_, __, outcome) =>
      outcomes.push(outcome),
    );
    await expect(port.refuse()).rejects.toMatchObject({ code: 'invalid_value' });
    expect(outcomes).toEqual(['invalid_value']);
    expect(seen.map(({ status }) => status?.message)).toEqual(['invalid_value']);
  });
});
