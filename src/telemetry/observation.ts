/** Where requests and the calls of ports become metrics, spans and log lines. */
import { TwofoldError } from '../errors.ts';
import type { Log } from './logs.ts';
import type { Metrics } from './metrics.ts';
import { tracePast, traced } from './tracing.ts';

/** One answered request, as the HTTP layer reports it. */
export interface RequestFacts {
  readonly requestId: string;
  /** Route id; null when no route was found. */
  readonly route: string | null;
  readonly method: string;
  readonly status: number;
  readonly code: string | null;
  readonly auditId: string | null;
  readonly source: string;
  readonly milliseconds: number;
  /** What failed inside. */
  readonly error: unknown;
}

const SERVER_FAULT = 500;

/**
 * Counts each request and makes a span of it. Failures of the service are logged as errors, other
 * requests at `debug`; who did what is the audit log's matter.
 */
export function requestObserver(
  log: Log,
  ...counters: readonly Pick<Metrics, 'request'>[]
): (facts: RequestFacts) => void {
  return (facts) => {
    for (const counter of counters) counter.request(facts);
    const { requestId, auditId, route, method, status, code } = facts;
    const attributes = {
      requestId,
      method,
      status,
      ...(route === null ? {} : { route }),
      ...(auditId === null ? {} : { auditId }),
      outcome: code ?? 'ok',
    };
    tracePast('request', facts.milliseconds, attributes, status >= SERVER_FAULT ? code : null);
    const fields = { ...attributes, source: facts.source, milliseconds: facts.milliseconds };
    if (status < SERVER_FAULT) log.debug(fields, 'answered');
    else log.error(facts.error === undefined ? fields : { ...fields, err: facts.error }, 'failed');
  };
}

const isOurs = (item: unknown): item is TwofoldError => TwofoldError.is(item);

/** Told of each call: its name, its arguments, `ok` or the error's code, and how long it took. */
export type CallObserver = (
  method: string,
  args: readonly unknown[],
  outcome: string,
  milliseconds: number,
) => void;

/**
 * The same object with some of its asynchronous methods observed, each in a span.
 *
 * @param part names the spans, `<part>.<method>`
 */
export function observed<T extends object>(
  target: T,
  part: string,
  methods: readonly (keyof T & string)[],
  observe: CallObserver,
): T {
  const wrapped = new Map<string | symbol, unknown>();
  for (const method of methods) {
    const span = `${part}.${method}`;
    wrapped.set(method, async (...args: unknown[]) => {
      const act = target[method];
      if (typeof act !== 'function') throw new TypeError(`${method} is no method`);
      const start = performance.now();
      let outcome = 'ok';
      try {
        const call = () => Reflect.apply(act, target, args) as Promise<unknown>;
        const result = await traced(span, { operation: method }, call);
        // Of many items that settled each by itself, the first that failed.
        if (Array.isArray(result)) outcome = result.find(isOurs)?.code ?? outcome;
        return result;
      } catch (error) {
        outcome = TwofoldError.is(error) ? error.code : 'internal';
        throw error;
      } finally {
        observe(method, args, outcome, performance.now() - start);
      }
    });
  }
  return new Proxy(target, {
    get: (_target, name) => {
      const own = wrapped.get(name);
      if (own !== undefined) return own;
      // Private members are found on the object itself only, so methods run on it.
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}
