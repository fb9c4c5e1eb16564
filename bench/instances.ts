/**
 * What a second instance on the same database costs: requests a processor-second of all processes (both
 * services and PostgreSQL, the load generator excluded) with one instance and with two, under the same load.
 */
import { startBeside } from '../test/e2e/beside.ts';
import type { TestService } from '../test/e2e/service.ts';
import type { Target } from './client.ts';
import { ServiceProcesses } from './cpu.ts';
import { closedLoop } from './load.ts';
import { prepareOperations } from './operations.ts';
import type { Operation } from './operations.ts';

/** Altogether, whether one instance takes them or two. */
const IN_FLIGHT = 32;
const MEASURED = ['hybrid unwrap', 'A256GCM unwrap', 'hybrid wrap', 'composite sign'];
/** Of each operation to each instance before any is measured: either has compiled what it will. */
const WARM_UP = 10_000;
/** Before each measurement, altogether. */
const RUN_UP = 1_000;
/** Of one instance's; issue: at least as much with two. */
const LEAST = 0.9;

export interface InstanceRow {
  readonly operation: string;
  /** Requests a processor-second, one figure for each round. */
  readonly one: readonly number[];
  readonly two: readonly number[];
  /** Medians of two instances over one. */
  readonly ratio: number;
}

const median = (all: readonly number[]): number =>
  all.toSorted((a, b) => a - b)[Math.floor((all.length - 1) / 2)] ?? NaN;

/** @throws Error when an answer is wrong */
async function perCpuSecond(
  services: readonly TestService[],
  first: TestService,
  operation: Operation,
  requests: number,
): Promise<number> {
  const targets: Target[] = services.map(({ url }) => ({ url: new URL(url) }));
  const processes = services.map(({ pid }) => new ServiceProcesses(pid, first.dataDir));
  const used = () => {
    const all = processes.map((one) => one.cpu());
    return all.reduce((sum, { server }) => sum + server, all[0]?.database ?? 0);
  };
  const load = (total: number) =>
    Promise.all(
      targets.map((target) =>
        closedLoop(target, operation.request, {
          inFlight: IN_FLIGHT / targets.length,
          requests: total / targets.length,
        }),
      ),
    );
  await load(RUN_UP);
  const before = used();
  const loads = await load(requests);
  const cpu = used() - before;
  for (const [place, { answers }] of loads.entries()) {
    const target = targets[place];
    if (target === undefined || !(await operation.verify(answers, target))) {
      throw new Error(`${operation.name}: an answer is wrong`);
    }
  }
  return loads.reduce((sum, { answers }) => sum + answers.length, 0) / cpu;
}

/** Alone, with all of the load: a service that has just started compiles while it answers. */
async function warm(service: TestService, operations: readonly Operation[], requests: number) {
  const target: Target = { url: new URL(service.url) };
  for (const { request } of operations) {
    await closedLoop(target, request, { inFlight: IN_FLIGHT, requests });
  }
}

export interface InstancesSize {
  readonly requests: number;
  readonly rounds: number;
  readonly warmUp?: number;
}

/** Rounds in alternation, so that a machine that slows down does so for both. */
export async function measureInstances(
  first: TestService,
  { requests, rounds, warmUp = WARM_UP }: InstancesSize,
): Promise<readonly InstanceRow[]> {
  const all = await prepareOperations(first);
  const operations = all.filter(({ name }) => MEASURED.includes(name));
  const figures = operations.map(() => ({ one: [] as number[], two: [] as number[] }));
  const measureAll = async (services: readonly TestService[], into: 'one' | 'two') => {
    for (const [place, operation] of operations.entries()) {
      const figure = await perCpuSecond(services, first, operation, requests);
      figures[place]?.[into].push(figure);
    }
  };
  const second = await startBeside(first);
  try {
    for (const service of [first, second]) await warm(service, operations, warmUp);
    for (let round = 0; round < rounds; round += 1) {
      await measureAll([first], 'one');
      await measureAll([first, second], 'two');
    }
  } finally {
    await second.destroy();
  }
  return operations.map(({ name }, place) => {
    const { one = [], two = [] } = figures[place] ?? {};
    return { operation: name, one, two, ratio: median(two) / median(one) };
  });
}

export const renderInstances = (rows: readonly InstanceRow[]): string =>
  [
    `| operation, ${String(IN_FLIGHT)} in flight | one instance, per CPU-second | two | two over one (at least ${String(LEAST)}) |`,
    '| --- | --- | --- | --- |',
    ...rows.map(({ operation, one, two, ratio }) => {
      const verdict = ratio >= LEAST ? ratio.toFixed(2) : `**${ratio.toFixed(2)}**`;
      return `| ${operation} | ${median(one).toFixed(0)} | ${median(two).toFixed(0)} | ${verdict} |`;
    }),
    '',
  ].join('\n');
