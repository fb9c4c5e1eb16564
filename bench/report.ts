/** The shape of a benchmark's result, and its text form. The JSON form is read strictly by `compare`. */
import { z } from 'zod';

export const RAW_NAMES = [
  'derive P-256',
  'derive P-384',
  'sign P-256',
  'sign P-384',
  'AES-GCM encrypt',
  'AES-GCM decrypt',
  'HMAC-SHA-256',
  'random',
  'ML-KEM-768 encapsulate',
  'ML-KEM-768 decapsulate',
  'hybrid encapsulation',
  'ML-DSA-65 sign',
  'ML-DSA-65 verify',
  'bare http',
  'bare Express',
  'bare commit',
  'bare parts',
] as const;
export type RawName = (typeof RAW_NAMES)[number];

const rawLimit = z.strictObject({
  name: z.enum(RAW_NAMES),
  /** What it is of, and in how many processes or connections. */
  of: z.string(),
  processes: z.int(),
  perSecond: z.number(),
});
export type RawLimit = z.infer<typeof rawLimit>;

const measurement = z.strictObject({
  operation: z.string(),
  transport: z.enum(['http', 'https']),
  /** `apart`: server on one core, database and load on the other; `memory`: data folder in memory. */
  placement: z.enum(['shared', 'apart', 'memory']),
  /** Requests in flight; null in an open loop. */
  inFlight: z.int().nullable(),
  /** Arrivals per second as a share of the closed loop's rate at 16; null in a closed loop. */
  arrivals: z.number().nullable(),
  /** Requests and items per second, all of them verified. */
  perSecond: z.number(),
  itemsPerSecond: z.number(),
  /** Milliseconds. */
  p50: z.number(),
  p99: z.number(),
  p999: z.number(),
  raw: z.enum(RAW_NAMES),
  /** Items per second over the raw limit of one process. */
  ratio: z.number(),
  /** Microseconds of processor time per item. */
  cpu: z.strictObject({ server: z.number(), database: z.number(), load: z.number() }),
});
export type Measurement = z.infer<typeof measurement>;

const bound = z.strictObject({
  what: z.string(),
  figure: z.string(),
  bound: z.string(),
  met: z.boolean(),
});
export type Bound = z.infer<typeof bound>;

/** One step of a hybrid unwrap, alone. */
const stepCost = z.strictObject({ step: z.string(), microseconds: z.number() });
export type StepCost = z.infer<typeof stepCost>;

export const benchReport = z.strictObject({
  version: z.literal(1),
  at: z.string(),
  machine: z.strictObject({
    cores: z.int(),
    processor: z.string(),
    node: z.string(),
    openssl: z.string(),
    token: z.string(),
  }),
  /** Seconds of each measurement. */
  seconds: z.number(),
  raw: z.array(rawLimit),
  measurements: z.array(measurement),
  /** Of one hybrid unwrap; what is missing to its server time is everything between them. */
  steps: z.array(stepCost),
  bounds: z.array(bound),
});
export type BenchReport = z.infer<typeof benchReport>;

/** @throws Error when that limit was not measured */
export function rawRate(limits: readonly RawLimit[], name: RawName, processes = 1): number {
  const found = limits.find((each) => each.name === name && each.processes === processes);
  if (found === undefined) throw new Error(`no raw rate of ${name}`);
  return found.perSecond;
}

/** What makes two measurements of two reports the same one. */
export const identityOf = (each: Measurement): string =>
  [each.operation, each.transport, each.placement, each.inFlight, each.arrivals].join(' | ');

/** Under what a measurement ran, in words. */
export function conditionOf({ placement, inFlight, arrivals }: Measurement): string {
  const load =
    arrivals === null
      ? `${String(inFlight)} in flight`
      : `arrivals at ${(arrivals * 100).toFixed(0)} %`;
  const place = { shared: '', apart: ', server on one core', memory: ', data in memory' };
  return load + place[placement];
}

const whole = (value: number): string => Math.round(value).toLocaleString('en-US');
const percent = (value: number): string => `${(value * 100).toFixed(0)} %`;
const milliseconds = (value: number): string => value.toFixed(2);

/** Tables in Markdown, which a terminal shows as well. */
export function renderText(report: BenchReport): string {
  const { machine, raw, measurements, steps, bounds } = report;
  return [
    `${String(machine.cores)} x ${machine.processor}, Node ${machine.node}, OpenSSL ${machine.openssl}, ${machine.token}`,
    table(
      ['raw limit', 'of', 'per second', 'µs'],
      raw.map(({ name, of, perSecond }) => [name, of, whole(perSecond), micros(perSecond)]),
    ),
    table(
      [
        'operation',
        '',
        'load',
        'items/s',
        'of raw',
        'p50 ms',
        'p99',
        'p99.9',
        'server µs',
        'db µs',
      ],
      measurements.map((each) => [
        each.operation,
        each.transport,
        conditionOf(each),
        whole(each.itemsPerSecond),
        percent(each.ratio),
        milliseconds(each.p50),
        milliseconds(each.p99),
        milliseconds(each.p999),
        whole(each.cpu.server),
        whole(each.cpu.database),
      ]),
    ),
    table(
      ['step of a hybrid unwrap, alone', 'µs of processor time'],
      steps.map(({ step, microseconds }) => [step, microseconds.toFixed(1)]),
    ),
    table(
      ['bound', 'figure', 'wanted', 'met'],
      bounds.map(({ what, figure, bound, met }) => [what, figure, bound, met ? 'yes' : 'NO']),
    ),
  ].join('\n\n');
}

function micros(perSecond: number): string {
  const each = 1e6 / perSecond;
  return each.toFixed(each < 10 ? 1 : 0);
}

/** A table with padded columns. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(3, title.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}
