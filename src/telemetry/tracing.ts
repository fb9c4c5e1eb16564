/**
 * Spans by the OpenTelemetry API. No SDK is brought: without one that the operator loads, every call
 * in here does nothing.
 *
 * Attributes come from the list below, and a failure is told by its code alone: exception events
 * would carry messages and stacks out of the process.
 */
import { ProxyTracerProvider, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { Attributes, Span } from '@opentelemetry/api';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';

/** Attribute names as written here, and as they leave: standard names where there is one. */
const ATTRIBUTES = {
  method: 'http.request.method',
  route: 'http.route',
  status: 'http.response.status_code',
  operation: `${NAME.metric}.operation`,
  outcome: `${NAME.metric}.outcome`,
  requestId: `${NAME.metric}.request_id`,
  auditId: `${NAME.metric}.audit_id`,
  suite: `${NAME.metric}.suite`,
  entries: `${NAME.metric}.entries`,
} as const;

export type SpanAttributes = Readonly<
  Partial<Record<keyof typeof ATTRIBUTES, string | number | undefined>>
>;

const MAX_TEXT = 128;

/** Runs `act` inside a span that ends with it, failed when it fails; its result or error goes on. */
export function traced<T>(
  name: string,
  attributes: SpanAttributes,
  act: () => Promise<T>,
): Promise<T> {
  if (nobodyTraces()) return act();
  return tracer().startActiveSpan(name, { attributes: allowed(attributes) }, async (span) => {
    try {
      return await act();
    } catch (error) {
      fail(span, TwofoldError.is(error) ? error.code : 'internal');
      throw error;
    } finally {
      span.end();
    }
  });
}

/** A span of what is over already. */
export function tracePast(
  name: string,
  milliseconds: number,
  attributes: SpanAttributes,
  failure: string | null,
): void {
  if (nobodyTraces()) return;
  const end = Date.now();
  const span = tracer().startSpan(name, {
    kind: SpanKind.SERVER,
    startTime: end - milliseconds,
    attributes: allowed(attributes),
  });
  if (failure !== null) fail(span, failure);
  span.end(end);
}

const tracer = () => trace.getTracer(NAME.metric);

/** Without an SDK the API stands for one that does nothing, at the price of a span for each call. */
function nobodyTraces(): boolean {
  const provider = trace.getTracerProvider();
  return (
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- until the API's next major, which is not out
    provider instanceof ProxyTracerProvider && provider.getDelegateTracer(NAME.metric) === undefined
  );
}

function fail(span: Span, code: string): void {
  span.setStatus({ code: SpanStatusCode.ERROR, message: code });
}

/** Checked here too: a caller's object may have more members than its type. */
function allowed(attributes: SpanAttributes): Attributes {
  const names: Readonly<Record<string, string>> = ATTRIBUTES;
  const shown: Attributes = {};
  for (const [key, value] of Object.entries(attributes)) {
    const name = Object.hasOwn(names, key) ? names[key] : undefined;
    if (name === undefined || value === undefined) continue;
    shown[name] = typeof value === 'string' ? value.slice(0, MAX_TEXT) : value;
  }
  return shown;
}
