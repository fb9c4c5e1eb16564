/**
 * `npm run bench [-- --quick] [--only REGEXP] [--workers N] [--json FILE] [--html FILE]`: raw limits and the service in one run, on
 * the same machine and at the same time of day, so that the ratio means something where absolute
 * figures do not. The load generator shares the machine with the service. `--only`, a regular expression,
 * chooses operations by name, and leaves out what is not of them (memory, the signature beside its halves).
 * `npm run bench -- algorithms [--json FILE]`: single algorithms and hybrids, in software and in the token.
 * `npm run bench -- engines [--json FILE]`: what the engine adds to node:crypto.
 * `npm run bench -- access [--json FILE]`: access decisions among many policies, and a change of one.
 * `npm run bench -- kubernetes [--quick] [--json FILE]`: the Kubernetes provider through its socket.
 * `npm run bench -- limits [--json FILE]`: what counting a request against its limits costs.
 * `npm run bench -- rotation-plan [--keys N] [--json FILE]`: a forecast over a million keys, with its memory.
 * `npm run bench -- lists [--quick] [--keys N] [--entries N] [--json FILE]`: pages of lists among a
 *   million keys and two million audit entries.
 * `npm run bench -- rotation [--quick] [--json FILE]`: unwraps beside rotations of other keys.
 * `npm run bench -- many-due [--quick] [--json FILE]`: unwraps beside 100,000 keys that are due at once.
 * `npm run bench -- policy-changes [--quick] [--json FILE]`: unwraps beside a stream of changes of policies.
 * `npm run bench -- root-rotation [--quick] [--json FILE]`: unwraps beside a rotation of the root, and its speed.
 * `npm run bench -- instances [--quick] [--json FILE]`: requests a processor-second with one instance and with two.
 * `npm run bench -- sequencer [--quick] [--rate N] [--json FILE]`: audit entries sequenced beside two appenders, bytes an entry,
 *   and proofs in a log of ten million.
 * `npm run bench -- audit-cost [--quick] [--json FILE]`: throughput with the audit log, without its sequencer, without appends.
 * `npm run bench -- backup [--keys N] [--json FILE]`: a backup of many keys, its time and memory.
 * `npm run bench -- compare A.json B.json`: what changed between two runs.
 */
import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';

import { makeCertificate } from '../test/config/certificate.ts';
import { TestService } from '../test/e2e/service.ts';
import type { ServiceOptions } from '../test/e2e/service.ts';
import { startWorkers } from '../test/e2e/worker-service.ts';
import { measureAccess, renderAccess } from './access.ts';
import { measureAuditCost, renderAuditCost } from './audit-cost.ts';
import { measureAlgorithms, renderAlgorithms } from './algorithms.ts';
import { boundsOf } from './bounds.ts';
import type { Target } from './client.ts';
import { measureEngines, renderEngines } from './engines.ts';
import { renderComparison } from './compare.ts';
import { measureBackup, renderBackup } from './backup.ts';
import { ServiceProcesses } from './cpu.ts';
import { renderHtml } from './html.ts';
import { measureInstances, renderInstances } from './instances.ts';
import { measureKubernetes, renderKubernetes } from './kubernetes.ts';
import { measureLimits, renderLimits } from './limits.ts';
import { measureLists, renderLists } from './lists.ts';
import { closedLoop, openLoop } from './load.ts';
import type { Load } from './load.ts';
import { measureManyDue, renderManyDue } from './many-due.ts';
import { memoryBounds } from './memory.ts';
import { BATCH, prepareOperations } from './operations.ts';
import type { Operation } from './operations.ts';
import { requirePlace } from './place.ts';
import { openSslLimits, serverLimits, tokenLimits } from './raw-limits.ts';
import { benchReport, rawRate, renderText } from './report.ts';
import type { BenchReport, Bound, Measurement, RawLimit } from './report.ts';
import { measureAuditVerify, renderAuditVerify } from './audit-verify.ts';
import { measureRotationPlan, renderRotationPlan } from './rotation-plan.ts';
import { measureRotation, renderRotation, rotateByOrder, rotateRoute } from './rotation.ts';
import { measurePolicyChanges, renderPolicyChanges } from './policy-changes.ts';
import { measureRootRotation, renderRootRotation } from './root-rotation.ts';
import { measureSequencer, renderSequencer } from './sequencer.ts';

const IN_FLIGHT = [1, 16, 64];
/** Arrivals as shares of what the closed loop reached at 16 in flight. */
const ARRIVALS = [0.5, 0.8];
const CONNECTIONS = 128;
/** Where the whole matrix would say little more. */
const CHOSEN = ['hybrid unwrap', 'A256GCM unwrap', 'composite sign'];
const PLACED = [
  ...CHOSEN,
  'hybrid wrap',
  'hybrid data key',
  'A256GCM wrap',
  'A256GCM data key',
  'P-256 sign',
  `A256GCM unwrap, batch of ${String(BATCH)}`,
];
/** Rotations a second beside the unwraps: what the scheduler makes of its default, 120 a minute, and five times that. */
const ROTATIONS = [2, 10];
const ROTATED = 200;
const CORES = cpus().length;
/** Rows among which lists are measured. */
const FEWER = { keys: 20_000, entries: 40_000, requests: 10 };

interface Run {
  readonly seconds: number;
  readonly workers: number;
  readonly raw: readonly RawLimit[];
  /** What the names of what is measured match; everything unless given. */
  readonly only: RegExp | undefined;
  readonly measurements: Measurement[];
}

interface Bench {
  readonly service: TestService;
  readonly target: Target;
  readonly operations: readonly Operation[];
  readonly processes: ServiceProcesses;
}

const startService = (workers: number, options: ServiceOptions = {}): Promise<TestService> =>
  workers === 1 ? TestService.start(options) : startWorkers(workers, options);

type Condition = Pick<Measurement, 'transport' | 'placement' | 'inFlight' | 'arrivals'>;

const note = (line: string): boolean => process.stderr.write(`${line}\n`);

async function measure(
  bench: Bench,
  run: Run,
  operation: Operation,
  condition: Condition,
  work: () => Promise<Load>,
): Promise<Measurement> {
  const before = bench.processes.cpu();
  const load = await work();
  const after = bench.processes.cpu();
  if (!(await operation.verify(load.answers, bench.target))) {
    throw new Error(`${operation.name}: an answer is wrong`);
  }
  const items = load.answers.length * operation.items;
  const itemsPerSecond = load.perSecond * operation.items;
  const each = (part: 'server' | 'database' | 'load') =>
    ((after[part] - before[part]) * 1e6) / items;
  const { perSecond, p50, p99, p999 } = load;
  const measurement = {
    operation: operation.name,
    ...condition,
    ...{ perSecond, itemsPerSecond, p50, p99, p999 },
    raw: operation.raw,
    ratio: itemsPerSecond / rawRate(run.raw, operation.raw),
    cpu: { server: each('server'), database: each('database'), load: each('load') },
  };
  run.measurements.push(measurement);
  note(`${operation.name}, ${JSON.stringify(condition)}: ${itemsPerSecond.toFixed(0)}/s`);
  return measurement;
}

function closed(
  bench: Bench,
  run: Run,
  operation: Operation,
  condition: Omit<Condition, 'arrivals'> & { readonly inFlight: number },
): Promise<Measurement> {
  const { inFlight } = condition;
  const { seconds } = run;
  return measure(bench, run, operation, { ...condition, arrivals: null }, () =>
    closedLoop(bench.target, operation.request, { inFlight, seconds }),
  );
}

async function matrix(bench: Bench, run: Run, transport: Measurement['transport']): Promise<void> {
  for (const operation of bench.operations) {
    await closedLoop(bench.target, operation.request, { inFlight: 16, seconds: run.seconds / 2 });
    // More batches than that fill the queue in front of the token, which refuses what is over.
    for (const inFlight of IN_FLIGHT.filter((each) => operation.items === 1 || each <= 16)) {
      const condition = { transport, placement: 'shared', inFlight } as const;
      const { perSecond } = await closed(bench, run, operation, condition);
      if (inFlight === 16 && transport === 'http') await open(bench, run, operation, perSecond);
    }
  }
}

async function open(
  bench: Bench,
  run: Run,
  operation: Operation,
  perSecond: number,
): Promise<void> {
  if (!CHOSEN.includes(operation.name)) return;
  for (const arrivals of ARRIVALS) {
    const condition = { transport: 'http', placement: 'shared', inFlight: null, arrivals } as const;
    const arrivalsPerSecond = perSecond * arrivals;
    await measure(bench, run, operation, condition, () =>
      openLoop(bench.target, operation.request, {
        arrivalsPerSecond,
        seconds: run.seconds,
        connections: CONNECTIONS,
      }),
    );
  }
}

/** With 8 connections, as the figures of peers were taken: server on one core; data folder in memory. */
async function placed(
  bench: Bench,
  run: Run,
  placement: 'shared' | 'apart' | 'memory',
): Promise<void> {
  if (placement === 'apart') bench.processes.pin('apart', CORES);
  try {
    for (const operation of bench.operations.filter(({ name }) => PLACED.includes(name))) {
      await closed(bench, run, operation, { transport: 'http', placement, inFlight: 8 });
    }
  } finally {
    if (placement === 'apart') bench.processes.pin('all', CORES);
  }
}

const benchOf = (
  service: TestService,
  operations: readonly Operation[],
  certificate?: string,
): Bench => ({
  service,
  target: { url: new URL(service.url), ...(certificate === undefined ? {} : { certificate }) },
  operations,
  processes: new ServiceProcesses(service.pid, service.dataDir),
});

/** @throws Error when there is none */
function chosen(operations: readonly Operation[], only: RegExp | undefined): readonly Operation[] {
  const found = operations.filter(({ name }) => only === undefined || only.test(name));
  if (found.length > 0) return found;
  throw new Error(`no operation has a name that matches ${String(only)}`);
}

async function inMemory(run: Run): Promise<void> {
  const dataDir = mkdtempSync('/dev/shm/twofold-bench-');
  const service = await startService(run.workers, { dataDir });
  try {
    const operations = chosen(await prepareOperations(service), run.only);
    await placed(benchOf(service, operations), run, 'memory');
  } finally {
    await service.destroy();
  }
}

async function secured(dataDir: string, operations: readonly Operation[], run: Run) {
  const { certificate, key } = makeCertificate();
  const files = { cert: join(dataDir, 'bench.pem'), key: join(dataDir, 'bench.key') };
  writeFileSync(files.cert, certificate);
  writeFileSync(files.key, key, { mode: 0o600 });
  chmodSync(files.key, 0o600);
  const environment = {
    TWOFOLD_HTTP_TLS_CERT_FILE: files.cert,
    TWOFOLD_HTTP_TLS_KEY_FILE: files.key,
  };
  const began = performance.now();
  const service = await startService(run.workers, { dataDir, environment });
  const started = performance.now() - began;
  try {
    await matrix(benchOf(service, operations, certificate), run, 'https');
  } finally {
    await service.stop();
  }
  return {
    what: 'start to ready, with an existing database',
    figure: `${(started / 1000).toFixed(2)} s`,
    bound: '< 3 s',
    met: started < 3_000,
  };
}

/** What a program of this folder prints about the token of a data folder. */
async function beside(name: string, dataDir: string): Promise<unknown> {
  const script = join(import.meta.dirname, name);
  const flags = ['--disable-warning=ExperimentalWarning', script, dataDir];
  const { stdout } = await promisify(execFile)(process.execPath, flags);
  return JSON.parse(stdout);
}

async function compositeBound(dataDir: string): Promise<Bound> {
  const { composite, pq, classical } = (await beside('composite.ts', dataDir)) as Record<
    'composite' | 'pq' | 'classical',
    number
  >;
  const ratio = composite / Math.max(pq, classical);
  return {
    what: 'composite signature, of its slower half',
    figure: `${ratio.toFixed(2)}x (${composite.toFixed(0)} µs; ML-DSA ${pq.toFixed(0)}, ECDSA ${classical.toFixed(0)})`,
    bound: '<= 1.5x',
    met: ratio <= 1.5,
  };
}

/** In a process of its own that has done nothing else: what the token leaked for others is not in it. */
async function memoryOf(
  dataDir: string,
  unwrap: Operation,
  options: Parameters<typeof memoryBounds>[3],
): Promise<readonly Bound[]> {
  const service = await startService(1, { dataDir });
  try {
    const { target } = benchOf(service, [unwrap]);
    return await memoryBounds(service.pid, target, unwrap.request, options);
  } finally {
    await service.stop();
  }
}

/** Everything, or what `only` names; `scale` shortens it. */
async function bench(scale: number, workers: number, only?: RegExp): Promise<BenchReport> {
  const service = await startService(workers);
  try {
    const all = await prepareOperations(service);
    const operations = chosen(all, only);
    const unwrap = all.find(({ name }) => name === 'hybrid unwrap');
    if (unwrap === undefined) throw new Error('no hybrid unwrap');
    const seconds = 4 * scale;
    note('raw limits');
    const token = await tokenLimits(service.dataDir);
    const raw = [
      ...token.limits,
      ...(await openSslLimits(scale)),
      ...(await serverLimits(service.dataDir, unwrap.request, seconds)),
    ];
    const run: Run = { seconds, workers, raw, only, measurements: [] };
    const plain = benchOf(service, operations);
    await matrix(plain, run, 'http');
    await placed(plain, run, 'shared');
    if (CORES > 1) await placed(plain, run, 'apart');
    await service.stop();
    const long = { operations: 100_000 * scale, leak: token.leakedBytesPerObject };
    // The bound is one of a process; of several none has its load alone.
    const whole = only === undefined;
    const memory = whole && workers === 1 ? await memoryOf(service.dataDir, unwrap, long) : [];
    const start = await secured(service.dataDir, operations, run);
    await inMemory(run);
    const steps = (await beside('steps.ts', service.dataDir)) as BenchReport['steps'];
    const composite = whole ? [await compositeBound(service.dataDir)] : [];
    const bounds = [...boundsOf(run), start, ...memory, ...composite];
    const { raw: limits, measurements } = run;
    return {
      version: 1,
      at: new Date().toISOString(),
      machine: machine(service),
      seconds,
      raw: [...limits],
      measurements,
      steps,
      bounds,
    };
  } finally {
    await service.destroy();
  }
}

function machine(service: TestService): BenchReport['machine'] {
  const [, token = 'unknown token'] = /^token +\S+ \(([^,]+)/m.exec(service.output) ?? [];
  return {
    cores: CORES,
    processor: cpus()[0]?.model ?? 'unknown',
    node: process.versions.node,
    openssl: process.versions.openssl,
    token,
  };
}

function refuse(what: string, error: unknown): never {
  note(`bench: ${what}: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(2);
}

function readReport(file: string): BenchReport {
  try {
    return benchReport.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (error) {
    return refuse(`${file} is no report`, error);
  }
}

const FLAGS = {
  quick: { type: 'boolean', default: false },
  workers: { type: 'string', default: '1' },
  keys: { type: 'string', default: '1000000' },
  entries: { type: 'string', default: '2000000' },
  requests: { type: 'string', default: '1000' },
  rate: { type: 'string', default: '20000' },
  only: { type: 'string' },
  json: { type: 'string' },
  html: { type: 'string' },
} as const;

/** Refused before a run that takes minutes: what it would lose its figures to, or make nothing of. */
function commandLine() {
  try {
    const given = parseArgs({ allowPositionals: true, options: FLAGS });
    const { json, html, workers, keys, entries, requests, rate } = given.values;
    for (const file of [json, html]) if (file !== undefined) requirePlace(file);
    for (const count of [workers, keys, entries, requests, rate]) {
      if (!/^[1-9]\d{0,9}$/u.test(count)) throw new Error(`${count} is no number of anything`);
    }
    return given;
  } catch (error) {
    return refuse('not run', error);
  }
}

const { values, positionals } = commandLine();
const [command, before, after] = positionals;
if (command === 'compare' && before !== undefined && after !== undefined) {
  process.stdout.write(`${renderComparison(readReport(before), readReport(after))}\n`);
} else if (command === 'algorithms') {
  const service = await startService(1);
  try {
    await service.stop();
    const rows = await measureAlgorithms(service.dataDir);
    const report = { at: new Date().toISOString(), machine: machine(service), rows };
    if (values.json !== undefined) {
      writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
    }
    process.stdout.write(`${JSON.stringify(report.machine)}\n${renderAlgorithms(rows)}\n`);
  } finally {
    await service.destroy();
  }
} else if (command === 'engines') {
  const report = await measureEngines();
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
  process.stdout.write(`${renderEngines(report)}\n`);
} else if (command === 'access') {
  const report = measureAccess();
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
  process.stdout.write(`${renderAccess(report)}\n`);
} else if (command === 'kubernetes') {
  const report = await measureKubernetes(values.quick);
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
  process.stdout.write(`${renderKubernetes(report)}\n`);
} else if (command === 'audit-verify') {
  const report = await measureAuditVerify(values.quick ? 100_000 : 1_000_000);
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
  process.stdout.write(`${renderAuditVerify(report)}\n`);
} else if (command === 'rotation-plan') {
  const report = await measureRotationPlan(Number(values.keys));
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
  process.stdout.write(`${renderRotationPlan(report)}\n`);
} else if (command === 'backup') {
  const report = await measureBackup(Number(values.keys));
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
  process.stdout.write(renderBackup(report));
} else if (command === 'limits') {
  const costs = await measureLimits();
  if (values.json !== undefined) {
    writeFileSync(values.json, `${JSON.stringify(costs, null, 1)}\n`);
  }
  process.stdout.write(renderLimits(costs));
} else if (command === 'lists') {
  const service = await startService(1);
  try {
    const { keys, entries, requests } = values;
    const size = values.quick
      ? FEWER
      : { keys: Number(keys), entries: Number(entries), requests: Number(requests) };
    const report = await measureLists(service, { ...size, only: values.only ?? null });
    if (values.json !== undefined) {
      const whole = { at: new Date().toISOString(), machine: machine(service), ...report };
      writeFileSync(values.json, `${JSON.stringify(whole, null, 1)}\n`);
    }
    process.stdout.write(`${JSON.stringify(machine(service))}\n${renderLists(report)}\n`);
  } finally {
    await service.destroy();
  }
} else if (command === 'instances') {
  const service = await startService(1);
  try {
    const size = values.quick
      ? { requests: 2_000, rounds: 1, warmUp: 1_000 }
      : { requests: 4_000, rounds: 3 };
    const report = { machine: machine(service), rows: await measureInstances(service, size) };
    if (values.json !== undefined) {
      writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
    }
    process.stdout.write(`${JSON.stringify(report.machine)}\n${renderInstances(report.rows)}`);
  } finally {
    await service.destroy();
  }
} else if (command === 'rotation') {
  const service = await startService(Number(values.workers));
  try {
    const rows = await measureRotation(service, {
      ...(values.quick ? { seconds: 1, rounds: 3 } : { seconds: 2, rounds: 15 }),
      keys: ROTATED,
      backgrounds: (...of) => [
        rotateByOrder(of[0]),
        ...ROTATIONS.map((perSecond) => rotateRoute(...of, { keys: ROTATED, perSecond })),
      ],
    });
    const report = { at: new Date().toISOString(), machine: machine(service), rows };
    if (values.json !== undefined) {
      writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
    }
    process.stdout.write(`${JSON.stringify(report.machine)}\n${renderRotation(rows)}\n`);
  } finally {
    await service.destroy();
  }
} else if (command === 'many-due') {
  const service = await startService(Number(values.workers));
  try {
    const size = values.quick
      ? { seconds: 1, quiet: 2, busy: 4 }
      : { seconds: 2, quiet: 10, busy: 40 };
    const keys = values.quick ? 2_000 : 100_000;
    const measured = await measureManyDue(service, { keys, ...size });
    const report = { at: new Date().toISOString(), machine: machine(service), ...measured };
    if (values.json !== undefined) {
      writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
    }
    process.stdout.write(`${JSON.stringify(report.machine)}\n${renderManyDue(measured)}\n`);
  } finally {
    await service.destroy();
  }
} else if (command === 'root-rotation') {
  const service = await startService(Number(values.workers));
  try {
    const size = values.quick ? { keys: 300, seconds: 1 } : { keys: 3_000, seconds: 6 };
    const report = await measureRootRotation(service, size);
    const whole = { at: new Date().toISOString(), machine: machine(service), ...report };
    if (values.json !== undefined) {
      writeFileSync(values.json, `${JSON.stringify(whole, null, 1)}\n`);
    }
    process.stdout.write(`${JSON.stringify(whole.machine)}\n${renderRootRotation(report)}\n`);
  } finally {
    await service.destroy();
  }
} else if (command === 'policy-changes') {
  const service = await startService(Number(values.workers));
  try {
    const size = values.quick
      ? { policies: 100, slices: 3, seconds: 1 }
      : { policies: 1_000, slices: 8, seconds: 2 };
    const load = { arrivalsPerSecond: 100, changesPerSecond: 2 };
    const report = await measurePolicyChanges(service, { ...size, ...load });
    const whole = { at: new Date().toISOString(), machine: machine(service), ...report };
    if (values.json !== undefined) {
      writeFileSync(values.json, `${JSON.stringify(whole, null, 1)}\n`);
    }
    process.stdout.write(`${JSON.stringify(whole.machine)}\n${renderPolicyChanges(report)}\n`);
  } finally {
    await service.destroy();
  }
} else if (command === 'sequencer') {
  const { quick, rate } = values;
  const report = await measureSequencer({
    ...{ rate: Number(rate), seconds: quick ? 5 : 30, proofs: !quick },
  });
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
  process.stdout.write(`${renderSequencer(report)}\n`);
} else if (command === 'audit-cost') {
  const rows = await measureAuditCost({
    ...(values.quick ? { rounds: 3, seconds: 1 } : { rounds: 9, seconds: 2 }),
    inFlight: values.quick ? [16] : [16, 64, 128],
  });
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 1)}\n`);
  process.stdout.write(`${renderAuditCost(rows)}\n`);
} else if (command === undefined) {
  const { quick, workers, only } = values;
  const named = only === undefined ? undefined : new RegExp(only, 'u');
  const report = await bench(quick ? 0.1 : 1, Number(workers), named);
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
  if (values.html !== undefined) writeFileSync(values.html, renderHtml(report));
  process.stdout.write(`${renderText(report)}\n`);
} else {
  note(
    'usage: bench [--quick] [--only REGEXP] [--workers N] [--json FILE] [--html FILE] | bench access [--json FILE] | bench algorithms [--json FILE] | bench audit-verify [--quick] [--json FILE] | bench engines [--json FILE] | bench kubernetes [--quick] [--json FILE] | bench limits [--json FILE] | bench lists [--quick] [--keys N] [--entries N] [--only FORM] [--json FILE] | bench rotation [--quick] [--json FILE] | bench many-due [--quick] [--json FILE] | bench rotation-plan [--keys N] [--json FILE] | bench policy-changes [--quick] [--json FILE] | bench root-rotation [--quick] [--json FILE] | bench sequencer [--quick] [--rate N] [--json FILE] | bench audit-cost [--quick] [--json FILE] | bench backup [--keys N] [--json FILE] | bench compare A.json B.json',
  );
  process.exitCode = 2;
}
