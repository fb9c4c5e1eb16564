/**
 * Metrics in Prometheus text, in a registry of our own.
 *
 * Labels come from closed sets only (route ids, status codes, error codes, operation names), so that
 * nothing a caller sends becomes a label: no key names, no subjects, no paths.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { ERRORS } from '../errors.ts';
import { NAME } from '../name.ts';

export interface MetricsOptions {
  /** Version of the service, shown as `…_build_info`. */
  readonly version: string;
  /** Ids of the routes that exist; anything else counts as `none`. */
  readonly routes: Iterable<string>;
  /** From 1, where several processes serve one address. */
  readonly worker?: number | undefined;
}

/** One answered request. */
export interface RequestFigures {
  /** Route id; null when no route was found. */
  readonly route: string | null;
  readonly method: string;
  readonly status: number;
  readonly code: string | null;
  readonly milliseconds: number;
}

export interface Metrics {
  request(figures: RequestFigures): void;
  /** One call to the HSM; `outcome` is `ok` or an error code. */
  hsm(operation: string, outcome: string, milliseconds: number): void;
  /** One call of the Kubernetes provider; `code` is gRPC's name of its status. */
  kubernetes(call: {
    readonly method: string;
    readonly code: string;
    readonly milliseconds: number;
  }): void;
  /** One append of a batch of audit entries. */
  auditAppend(entries: number, outcome: string, milliseconds: number): void;
  /**
   * A figure that is read when metrics are: queue depths, cache sizes, readiness.
   *
   * @param name without prefix, `[a-z_]`, with its unit at the end
   * @param read one number, or one per value of the label `kind`, which must be of a fixed set
   * @param whole what several workers' figures make together: their sum unless told, the highest, or
   *   one of `each`, with its number as the label `worker`
   */
  gauge(
    name: string,
    help: string,
    read: () => number | Readonly<Record<string, number>>,
    whole?: Whole,
  ): void;
  renderMetrics(): Promise<Rendered>;
  /** What `wholeMetrics` makes one text of, with those of other workers. */
  figures(): Promise<Figures>;
  /** Stops measuring the event loop. */
  close(): void;
}

export type Whole = 'sum' | 'max' | 'each';

/** Prometheus text and its type. */
export interface Rendered {
  readonly contentType: string;
  readonly body: string;
}

/** One worker's metrics as plain values; see `prom-client`'s aggregation. */
export type Figures = readonly Figure[];
export interface Figure {
  readonly name: string;
  readonly type: string;
  readonly aggregator: string;
  readonly values: readonly object[];
}

type LoopDelay = ReturnType<typeof monitorEventLoopDelay>;

const METHODS = new Set(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS']);
const SECONDS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const BATCHES = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
const LOOP_RESOLUTION_MS = 10;
const NAME_FORM = /^[a-z][a-z0-9_]*$/u;

export function createMetrics({ version, routes, worker }: MetricsOptions): Metrics {
  const registry = new Registry();
  const loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  loop.enable();
  const gauge = gaugeMaker(registry, worker);
  processFigures(gauge, loop);
  new Gauge({
    name: `${NAME.metric}_build_info`,
    help: 'Version of the running service; always 1.',
    labelNames: ['version'],
    registers: [registry],
    aggregator: 'max',
  }).set({ version }, 1);
  return {
    request: requestRecorder(registry, new Set(routes)),
    hsm: callRecorder(registry),
    kubernetes: providerRecorder(registry),
    auditAppend: appendRecorder(registry),
    gauge,
    renderMetrics: async () => {
      const body = await registry.metrics();
      loop.reset();
      return { contentType: registry.contentType, body };
    },
    figures: async () => {
      const figures = (await registry.getMetricsAsJSON()) as unknown as Figures;
      loop.reset();
      return figures;
    },
    close: () => {
      loop.disable();
      registry.clear();
    },
  };
}

function requestRecorder(registry: Registry, routes: ReadonlySet<string>): Metrics['request'] {
  const seconds = histogram(
    registry,
    'http_request_seconds',
    'Time to answer a request.',
    SECONDS,
    ['route', 'method', 'status'],
  );
  const refused = counter(registry, 'http_errors_total', 'Requests answered with an error.', [
    'route',
    'code',
  ]);
  return ({ route, method, status, code, milliseconds }) => {
    const known = route !== null && routes.has(route) ? route : 'none';
    const labels = { route: known, method: METHODS.has(method) ? method : 'other', status };
    seconds.observe(labels, milliseconds / 1000);
    if (code !== null) refused.inc({ route: known, code: outcomeLabel(code) });
  };
}

function callRecorder(registry: Registry): Metrics['hsm'] {
  const labels = ['operation', 'outcome'];
  const seconds = histogram(registry, 'hsm_call_seconds', 'Time of an HSM call.', SECONDS, labels);
  return (operation, outcome, milliseconds) => {
    seconds.observe({ operation, outcome: outcomeLabel(outcome) }, milliseconds / 1000);
  };
}

function providerRecorder(registry: Registry): Metrics['kubernetes'] {
  const help = 'Time to answer a call of the Kubernetes provider.';
  const labels = ['method', 'code'];
  const seconds = histogram(registry, 'kubernetes_call_seconds', help, SECONDS, labels);
  return ({ method, code, milliseconds }) => {
    seconds.observe({ method, code }, milliseconds / 1000);
  };
}

function appendRecorder(registry: Registry): Metrics['auditAppend'] {
  const help = 'Time until a batch of audit entries was durable.';
  const seconds = histogram(registry, 'audit_append_seconds', help, SECONDS, ['outcome']);
  const sizes = histogram(
    registry,
    'audit_batch_entries',
    'Audit entries in a batch.',
    BATCHES,
    [],
  );
  return (entries, outcome, milliseconds) => {
    seconds.observe({ outcome: outcomeLabel(outcome) }, milliseconds / 1000);
    sizes.observe(entries);
  };
}

/** Error codes are a closed set; `stale` is an append that a change overtook. */
const outcomeLabel = (outcome: string): string =>
  outcome === 'ok' || outcome === 'stale' || Object.hasOwn(ERRORS, outcome) ? outcome : 'other';

function gaugeMaker(registry: Registry, worker: number | undefined): Metrics['gauge'] {
  return (name, help, read, whole = 'sum') => {
    if (!NAME_FORM.test(name)) throw new TypeError('a metric name has lower-case letters only');
    const own = whole === 'each' && worker !== undefined ? { worker } : {};
    new Gauge({
      name: `${NAME.metric}_${name}`,
      help,
      labelNames: ['kind', ...Object.keys(own)],
      registers: [registry],
      // The label keeps one worker's figures apart from another's.
      aggregator: whole === 'each' ? 'first' : whole,
      collect() {
        const value = read();
        this.reset();
        if (typeof value === 'number') this.set(own, value);
        else for (const [kind, part] of Object.entries(value)) this.set({ kind, ...own }, part);
      },
    });
  };
}

function processFigures(gauge: Metrics['gauge'], loop: LoopDelay): void {
  // A sample is the time between two beats, so an idle loop shows the resolution, not 0.
  const seconds = (nanoseconds: number) =>
    loop.count === 0 ? 0 : Math.max(0, nanoseconds / 1e9 - LOOP_RESOLUTION_MS / 1e3);
  gauge(
    'event_loop_delay_seconds',
    'Delay of the event loop since metrics were last read.',
    () => ({
      p50: seconds(loop.percentile(50)),
      p99: seconds(loop.percentile(99)),
      max: seconds(loop.max),
    }),
    'each',
  );
  const memory = () => {
    const { rss, heapUsed, external } = process.memoryUsage();
    return { resident: rss, heap: heapUsed, external };
  };
  gauge('memory_bytes', 'Memory of this process.', memory, 'each');
  const cpu = () => {
    const { user, system } = process.cpuUsage();
    return { user: user / 1e6, system: system / 1e6 };
  };
  gauge('cpu_seconds', 'Processor time used by this process.', cpu, 'each');
  gauge('uptime_seconds', 'Time since this process began.', () => process.uptime(), 'each');
}

const histogram = <L extends string>(
  registry: Registry,
  name: string,
  help: string,
  buckets: number[],
  labelNames: readonly L[],
): Histogram<L> =>
  new Histogram({
    name: `${NAME.metric}_${name}`,
    help,
    buckets,
    labelNames,
    registers: [registry],
  });

const counter = <L extends string>(
  registry: Registry,
  name: string,
  help: string,
  labelNames: readonly L[],
): Counter<L> =>
  new Counter({ name: `${NAME.metric}_${name}`, help, labelNames, registers: [registry] });
