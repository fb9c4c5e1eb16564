/**
 * What rotations in the background cost those who unwrap in the foreground, with other keys. Quiet and
 * busy slices take turns in one run, many and short, at the same arrivals: a figure is the median over
 * slices. A ratio is that of one busy slice to the mean of the quiet ones before and after it, which a
 * machine that grows slower or faster meanwhile does not change; told are its median and quartiles.
 * The p99 of one short slice rests on few answers, so there is another: that of all answers of busy
 * slices to that of all answers of quiet ones, with the middle nine tenths of what the rounds, drawn
 * again and again, would have made of it.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import type { TestService } from '../test/e2e/service.ts';
import { Client, post } from './client.ts';
import type { Target } from './client.ts';
import { closedLoop, openLoop } from './load.ts';

const FOREGROUND = 'foreground';
const SUITE = 'MLKEM768-P256';
/** Changes in flight at most; a service that is slower than the rate is given no more. */
const IN_FLIGHT = 4;
/** Arrivals of the foreground, of what a closed loop reaches with so many in flight. */
const SHARE = 0.5;
const CLOSED = 16;
const CONNECTIONS = 128;
const MAX_RATIO = 1.2;
/** Groups of keys, each ordered in its turn. */
const SLOTS = 20;

/** How often rounds are drawn. */
const DRAWS = 1_000;

/** Work that goes on beside the foreground until it is told to stop. */
export interface Background {
  readonly name: string;
  /** `stop` resolves with how many rotations were done, once none is under way. */
  start(): Promise<{ stop(): Promise<number> }>;
}

export interface RotationRow {
  readonly background: string;
  /** Rotations a second that took place. */
  readonly rotations: number;
  /** Foreground unwraps a second. */
  readonly perSecond: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  /** Of p99 to that of the quiet slices beside; null for what is quiet itself. */
  readonly ratio: Spread | null;
  /** Of the p99 of all answers to that of all quiet ones; null likewise. */
  readonly pooled: Spread | null;
}

export interface Spread {
  readonly low: number;
  readonly median: number;
  readonly high: number;
}

type Slice = Omit<RotationRow, 'ratio' | 'pooled'> & { readonly times: Float64Array };

const NOTHING: Background = {
  name: 'none',
  start: async () => ({ stop: async () => 0 }),
};

/**
 * Calls `act` so many times a second, at most `IN_FLIGHT` at once; what finds none free is left out.
 * @throws the first error of `act`, from `stop`
 */
export function paced(perSecond: number, act: (index: number) => Promise<void>) {
  const running = new Set<Promise<void>>();
  const began = performance.now();
  let due = 0;
  let done = 0;
  let stopped = false;
  let failure: unknown;
  const one = (index: number): void => {
    const work = act(index)
      .then(
        () => {
          done += 1;
        },
        (error: unknown) => {
          failure ??= error;
        },
      )
      .finally(() => running.delete(work));
    running.add(work);
  };
  const run = async (): Promise<void> => {
    while (!stopped && failure === undefined) {
      for (; began + (due * 1000) / perSecond <= performance.now(); due += 1) {
        if (running.size < IN_FLIGHT) one(due);
      }
      await sleep(1);
    }
  };
  const pace = run();
  return {
    stop: async (): Promise<number> => {
      stopped = true;
      await pace;
      await Promise.all(running);
      if (failure !== undefined) throw failure instanceof Error ? failure : new Error('it failed');
      return done;
    },
  };
}

/** Through the admin route, as an operator's own script would. */
export function rotateRoute(
  service: TestService,
  target: Target,
  { keys, perSecond }: { readonly keys: number; readonly perSecond: number },
): Background {
  return {
    name: `${String(perSecond)}/s by the route`,
    start: async () => {
      const token = await service.token('admin');
      const free = await Promise.all(Array.from({ length: IN_FLIGHT }, () => Client.open(target)));
      const pace = paced(perSecond, async (index) => {
        const client = free.pop();
        if (client === undefined) throw new Error('no connection is free');
        const path = `/v1/admin/keys/${nameOf(index % keys)}/rotate`;
        const request = post(path, token, Buffer.from('{}'), 'application/json');
        const { status, body } = await client.send(request);
        free.push(client);
        if (status !== 200) throw new Error(`${path}: ${String(status)} ${body.toString('utf8')}`);
      });
      return {
        stop: async () => {
          const done = await pace.stop();
          for (const client of free) client.close();
          return done;
        },
      };
    },
  };
}

/**
 * By orders, which the scheduler carries out as it does what is due: one key after another, with its
 * rests, and no more a minute than it may.
 */
export function rotateByOrder(service: TestService): Background {
  let slot = 0;
  const ask = async (method: string, path: string, body?: object) => {
    const { status, json, bytes } = await service.request(method, path, body);
    // An order of few keys may be done before it is cancelled.
    if (status >= 300 && json.code !== 'operation_ended') {
      throw new Error(`${path}: ${String(status)} ${bytes.toString('utf8')}`);
    }
    return json;
  };
  return {
    name: 'by the scheduler',
    start: async () => {
      slot = (slot + 1) % SLOTS;
      const selector = { labels: { slot: String(slot) } };
      const { id } = await ask('POST', '/v1/admin/rotations', { selector, reason: 'measured' });
      const path = `/v1/admin/operations/${String(id)}`;
      return {
        stop: async () => {
          await ask('POST', `${path}/cancel`, { reason: 'the slice is over' });
          const { progress } = await ask('GET', path);
          return (progress as { readonly succeeded?: number }).succeeded ?? 0;
        },
      };
    },
  };
}

const nameOf = (index: number): string => `background-${String(index)}`;

const quantile = (values: readonly number[], share: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * share + 0.5)] ?? Number.NaN;

const median = (values: readonly number[]): number => quantile(values, 0.5);

/** Of each slice to the mean of the quiet ones before and after it; `quiet` has one more. */
export function ratios(slices: readonly number[], quiet: readonly number[]): Spread {
  const each = slices.map((value, index) => {
    const [before = Number.NaN, after = before] = quiet.slice(index, index + 2);
    return value / ((before + after) / 2);
  });
  return { low: quantile(each, 0.25), median: median(each), high: quantile(each, 0.75) };
}

const p99Of = (slices: readonly Float64Array[]): number => {
  const all = new Float64Array(slices.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const slice of slices) {
    all.set(slice, at);
    at += slice.length;
  }
  all.sort();
  return all[Math.floor((all.length - 1) * 0.99)] ?? Number.NaN;
};

/**
 * Of the p99 of all busy answers to that of all quiet ones. A round is a busy slice with the quiet ones
 * beside it (`quiet` has one more), drawn together, so that what the machine did to both counts for both.
 */
export function pooledRatio(
  busy: readonly Float64Array[],
  quiet: readonly Float64Array[],
  random: () => number = Math.random,
): Spread {
  const rounds = busy.map((times, index) => ({ times, beside: quiet.slice(index, index + 2) }));
  const ratioOf = (drawn: typeof rounds): number =>
    p99Of(drawn.map(({ times }) => times)) / p99Of(drawn.flatMap(({ beside }) => beside));
  const draw = () => rounds[Math.floor(random() * rounds.length)];
  const drawn = Array.from({ length: DRAWS }, () =>
    ratioOf(rounds.map(draw).filter((round) => round !== undefined)),
  );
  return { low: quantile(drawn, 0.05), median: ratioOf(rounds), high: quantile(drawn, 0.95) };
}

export interface RotationOptions {
  /** Of one slice. */
  readonly seconds: number;
  readonly rounds: number;
  /**
   * One is rotated after the other. A change reads and verifies every version of its key, so there are
   * to be enough of them that none has many.
   */
  readonly keys: number;
  /** What goes on in the background; the quiet slices are added. */
  readonly backgrounds: (service: TestService, target: Target) => readonly Background[];
}

/** Makes its keys and measures. @throws Error when an unwrap or a rotation fails, or opens wrongly */
export async function measureRotation(
  service: TestService,
  { seconds, rounds, keys: count, backgrounds }: RotationOptions,
): Promise<readonly RotationRow[]> {
  const target: Target = { url: new URL(service.url) };
  const keys = Array.from({ length: count }, (_, index) => nameOf(index));
  for (const name of [FOREGROUND, ...keys]) {
    const labels = name === FOREGROUND ? {} : { slot: String(keys.indexOf(name) % SLOTS) };
    const made = await service.request('POST', '/v1/admin/keys', { name, suite: SUITE, labels });
    if (made.status !== 201) throw new Error(made.bytes.toString('utf8'));
  }
  const plaintext = Buffer.alloc(32, 7);
  const wrapped = await service.request('POST', `/v1/keys/${FOREGROUND}/wrap`, plaintext, {
    headers: { Accept: 'application/octet-stream' },
  });
  const token = await service.token('user');
  const request = post(`/v1/keys/${FOREGROUND}/unwrap`, token, wrapped.bytes);
  await closedLoop(target, request, { inFlight: CLOSED, seconds: seconds / 2 });
  const { perSecond } = await closedLoop(target, request, { inFlight: CLOSED, seconds });
  const slice = async (background: Background): Promise<Slice> => {
    const began = performance.now();
    const work = await background.start();
    const load = await openLoop(target, request, {
      ...{ arrivalsPerSecond: perSecond * SHARE, seconds, connections: CONNECTIONS },
    });
    const done = await work.stop();
    const rotations = (done * 1000) / (performance.now() - began);
    if (!load.answers.every((bytes) => bytes.equals(plaintext))) {
      throw new Error('an answer is wrong');
    }
    const { p50, p99, times } = load;
    return { background: background.name, rotations, perSecond: load.perSecond, p50, p99, times };
  };
  const rows: RotationRow[] = [];
  const quiet: Slice[] = [];
  for (const background of backgrounds(service, target)) {
    const beside = [await slice(NOTHING)];
    const busy: Slice[] = [];
    for (let round = 0; round < rounds; round += 1) {
      busy.push(await slice(background));
      beside.push(await slice(NOTHING));
    }
    const p99s = (slices: readonly Slice[]) => slices.map(({ p99 }) => p99);
    const pooled = pooledRatio(
      busy.map(({ times }) => times),
      beside.map(({ times }) => times),
    );
    rows.push({ ...medians(busy), ratio: ratios(p99s(busy), p99s(beside)), pooled });
    quiet.push(...beside);
  }
  return [{ ...medians(quiet), ratio: null, pooled: null }, ...rows];
}

function medians(slices: readonly Slice[]): Omit<Slice, 'times'> {
  const [first] = slices;
  if (first === undefined) throw new Error('no slice was measured');
  const of = (member: Exclude<keyof Slice, 'background' | 'times'>) =>
    median(slices.map((each) => each[member]));
  return {
    background: first.background,
    rotations: of('rotations'),
    perSecond: of('perSecond'),
    p50: of('p50'),
    p99: of('p99'),
  };
}

const line = (...cells: readonly string[]): string =>
  cells.map((cell, index) => (index === 0 ? cell.padEnd(22) : cell.padStart(13))).join('');

const told = ({ low, median: of, high }: Spread): string =>
  `${of.toFixed(2)} (${low.toFixed(2)}-${high.toFixed(2)})${of <= MAX_RATIO ? '' : ' > 1.2'}`;

/** As text; the row without a background comes first. Ratios with how far they spread. */
export function renderRotation(rows: readonly RotationRow[]): string {
  const [quiet] = rows;
  if (quiet === undefined) throw new Error('nothing was measured');
  return [
    line('rotations', 'done/s', 'unwraps/s', 'p50, ms', 'p99, ms', 'p50 ratio') +
      '  p99 ratio             of all answers',
    ...rows.map(
      ({ background, rotations, perSecond, p50, p99, ratio, pooled }) =>
        line(
          background,
          rotations.toFixed(1),
          perSecond.toFixed(0),
          p50.toFixed(2),
          p99.toFixed(2),
          (p50 / quiet.p50).toFixed(2),
        ) +
        [ratio, pooled].map((each) => (each === null ? '' : `  ${told(each)}`.padEnd(23))).join(''),
    ),
  ].join('\n');
}
