/**
 * What a second instance on the same database costs: requests a processor-second of all processes (both
 * services and PostgreSQL, the load generator excluded) with one instance and with two: under the same load,
 * which each then has half of, and with the load of one for each, as when an instance is added for more load.
 */
import { startBeside } from '../test/e2e/beside.ts';
import type { TestService } from '../test/e2e/service.ts';
import type { Target } from './client.ts';
import { ServiceProcesses } from './cpu.ts';
import { closedLoop } from './load.ts';
import { prepareOperations } from './operations.ts';
import type { Operation } from './operations.ts';

/** To one instance; to two as many altogether, or as many each. */
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
  /** With the load of one altogether. */
  readonly shared: readonly number[];
  /** With the load of one for each. */
  readonly doubled: readonly number[];
}

type Kind = 'one' | 'shared' | 'doubled';

const median = (all: readonly number[]): number =>
  all.toSorted((a, b) => a - b)[Math.floor((all.length - 1) / 2)] ?? NaN;

/** @throws Error when an answer is wrong */
async function perCpuSecond(
  services: readonly TestService[],
  first: TestService,
  operation: Operation,
  { requests, inFlight }: { readonly requests: number; readonly inFlight: number },
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
          inFlight: inFlight / targets.length,
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
  const figures = operations.map(() => {
    return { one: [] as number[], shared: [] as number[], doubled: [] as number[] };
  });
  const measureAll = async (services: readonly TestService[], into: Kind) => {
    const inFlight = into === 'doubled' ? IN_FLIGHT * services.length : IN_FLIGHT;
    for (const [place, operation] of operations.entries()) {
      const figure = await perCpuSecond(services, first, operation, { requests, inFlight });
      figures[place]?.[into].push(figure);
    }
  };
  const second = await startBeside(first);
  try {
    for (const service of [first, second]) await warm(service, operations, warmUp);
    for (let round = 0; round < rounds; round += 1) {
      await measureAll([first], 'one');
      await measureAll([first, second], 'shared');
      await measureAll([first, second], 'doubled');
    }
  } finally {
    await second.destroy();
  }
  return operations.map(({ name }, place) => {
    const { one = [], shared = [], doubled = [] } = figures[place] ?? {};
    return { operation: name, one, shared, doubled };
  });
}

const ratioText = (figure: number, of: number): string => {
  const ratio = (figure / of).toFixed(2);
  return figure / of >= LEAST ? ratio : `**${ratio}**`;
};

export const renderInstances = (rows: readonly InstanceRow[]): string =>
  [
    `Requests a processor-second; two instances over one are to be ${String(LEAST)} at least.`,
    '',
    `| operation | one instance, ${String(IN_FLIGHT)} in flight | two, ${String(IN_FLIGHT)} altogether | over one | two, ${String(IN_FLIGHT)} each | over one |`,
    '| --- | --- | --- | --- | --- | --- |',
    ...rows.map(({ operation, one, shared, doubled }) => {
      const [alone, both, each] = [median(one), median(shared), median(doubled)];
      const texts = [alone.toFixed(0), both.toFixed(0), ratioText(both, alone)];
      return `| ${[operation, ...texts, each.toFixed(0), ratioText(each, alone)].join(' | ')} |`;
    }),
    '',
  ].join('\n');
