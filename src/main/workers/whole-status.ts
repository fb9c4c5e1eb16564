/** The status of all workers as one, in the form of one. */
import type { Status } from '../../contract/status.ts';

type Worker = NonNullable<Status['workers']>[number];
type History = Status['history'];
type Series = History['failed'];
type Lane = Status['audit']['uses'];

/**
 * @param answering the worker that gives the page
 * @param all what each worker says of itself, the answering one included
 */
export function wholeStatus(
  answering: Status,
  all: readonly Status[],
  readiness: Status['readiness'],
  workers: readonly Worker[],
): Status {
  const sum = (read: (status: Status) => number) =>
    all.reduce((total, status) => total + read(status), 0);
  const most = (read: (status: Status) => number) => Math.max(...all.map(read));
  // What is well with a part is shown by a worker with which it is not, if there is one.
  const worst = <T extends { readonly state: string }>(read: (status: Status) => T): T =>
    all.map(read).find(({ state }) => state !== 'ok') ?? read(answering);
  const lane = (read: (status: Status) => Lane): Lane => ({
    number: null,
    durable: sum((status) => read(status).durable),
  });
  return {
    ...answering,
    readiness,
    uptimeSeconds: most(({ uptimeSeconds }) => uptimeSeconds),
    hsm: {
      ...worst(({ hsm }) => hsm),
      queued: sum(({ hsm }) => hsm.queued),
      queueLimit: sum(({ hsm }) => hsm.queueLimit),
    },
    uses: {
      underWay: sum(({ uses }) => uses.underWay),
      waiting: sum(({ uses }) => uses.waiting),
      refused: sum(({ uses }) => uses.refused),
    },
    database: worst(({ database }) => database),
    audit: {
      state: worst(({ audit }) => audit).state,
      uses: lane(({ audit }) => audit.uses),
      changes: lane(({ audit }) => audit.changes),
      waiting: sum(({ audit }) => audit.waiting),
      failures: most(({ audit }) => audit.failures),
      log: {
        state: worst(({ audit: { log } }) => log).state,
        entries: most(({ audit: { log } }) => log.entries),
        unsequenced: most(({ audit: { log } }) => log.unsequenced),
        lanesAtFault: most(({ audit: { log } }) => log.lanesAtFault),
      },
      sinks: wholeSinks(all.flatMap(({ audit }) => audit.sinks)),
    },
    history: wholeHistory(all.map(({ history }) => history)),
    workers: [...workers],
  };
}

/** Steps of workers do not begin together; the latest of each stand for the same five seconds. */
function wholeHistory(all: readonly History[]): History {
  const [any] = all;
  if (any === undefined) throw new TypeError('no worker has a history');
  const sums = (read: (history: History) => Series) => joined(all.map(read), add);
  const highest = (read: (history: History) => Series) => joined(all.map(read), Math.max);
  return {
    stepSeconds: any.stepSeconds,
    steps: any.steps,
    requests: {
      wrap: sums(({ requests }) => requests.wrap),
      sign: sums(({ requests }) => requests.sign),
      mac: sums(({ requests }) => requests.mac),
      admin: sums(({ requests }) => requests.admin),
      other: sums(({ requests }) => requests.other),
    },
    refused: sums(({ refused }) => refused),
    failed: sums(({ failed }) => failed),
    p50: highest(({ p50 }) => p50),
    p99: highest(({ p99 }) => p99),
    queued: sums(({ queued }) => queued),
  };
}

/** Three places, as each worker has them. */
const add = (one: number, other: number): number => Math.round((one + other) * 1_000) / 1_000;

/** Step by step from the latest back; a step is null where none of them has a value. */
function joined(all: readonly Series[], join: (one: number, other: number) => number): Series {
  const length = Math.max(...all.map((series) => series.length));
  return Array.from({ length }, (_, step) =>
    all
      .map((series) => series[series.length - length + step] ?? null)
      .reduce(
        (one, other) => (one === null ? other : other === null ? one : join(one, other)),
        null,
      ),
  );
}

/** Each once, as the worker that serves it knows it; where none does, it waits. */
function wholeSinks(all: Status['audit']['sinks']): Status['audit']['sinks'] {
  const byName = new Map<string, Status['audit']['sinks'][number]>();
  for (const sink of all) {
    if (sink.state !== 'waiting' || !byName.has(sink.name)) byName.set(sink.name, sink);
  }
  return [...byName.values()];
}
