/**
 * What a rotation of the root costs those who unwrap meanwhile, and how fast it moves versions. The
 * foreground is a closed loop that lasts until all versions have moved, so that whatever the rotation
 * takes is missing from it. What a version takes of the processor is what the service and its database
 * used meanwhile less what the unwraps take without a rotation, so it holds on a shared machine too.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

import { COMMAND_ENVIRONMENT } from '../test/command-environment.ts';
import type { TestService } from '../test/e2e/service.ts';
import { Client, post } from './client.ts';
import { ServiceProcesses } from './cpu.ts';
import type { Target } from './client.ts';
import { closedLoop } from './load.ts';
import type { Load } from './load.ts';

const FOREGROUND = 'foreground';
const SUITE = 'MLKEM768-P256';
const IN_FLIGHT = 16;
/** Of the foreground meanwhile; the last one, which outlives the rotation, is left out. */
const SLICE_SECONDS = 0.5;
/** Keys are made by so many at once. */
const MAKERS = 8;
const COMMAND = join(import.meta.dirname, '../scripts/twofold');
/** What the foreground may lose, and how fast versions are to be moved. */
const BOUNDS = { loss: 0.2, versions: 300 } as const;

export interface RootRotationReport {
  readonly versions: number;
  /** Versions a second, from the beginning of the rotation until all had moved. */
  readonly perSecond: number;
  /** Foreground unwraps a second, before, during and after. */
  readonly quiet: number;
  readonly busy: number;
  readonly after: number;
  /** Milliseconds. */
  readonly p99: { readonly quiet: number; readonly busy: number };
  /** Microseconds of the service's and the database's processor time: for each version, and what of it is the database's; of an unwrap. */
  readonly processor: {
    readonly version: number;
    readonly database: number;
    readonly unwrap: number;
  };
}

interface Progress {
  readonly state: string;
  readonly root: { readonly versions: number };
}

/** Makes its keys and measures. @throws Error when an unwrap or the rotation fails */
export async function measureRootRotation(
  service: TestService,
  { keys, seconds }: { readonly keys: number; readonly seconds: number },
): Promise<RootRotationReport> {
  const target: Target = { url: new URL(service.url) };
  await makeKeys(service, target, keys);
  const plaintext = Buffer.alloc(32, 7);
  const wrapped = await service.request('POST', `/v1/keys/${FOREGROUND}/wrap`, plaintext, {
    headers: { Accept: 'application/octet-stream' },
  });
  const token = await service.token('user');
  const request = post(`/v1/keys/${FOREGROUND}/unwrap`, token, wrapped.bytes);
  const loop = (of: number) => closedLoop(target, request, { inFlight: IN_FLIGHT, seconds: of });
  await promisify(execFile)(COMMAND, ['hsm', 'generation', 'add', '--data', service.dataDir], {
    env: { ...COMMAND_ENVIRONMENT },
  });
  const processes = new ServiceProcesses(service.pid, service.dataDir);
  const used = () => {
    const { server, database } = processes.cpu();
    return { both: (server + database) * 1e6, database: database * 1e6 };
  };
  await loop(seconds);
  const before = used();
  const quiet = await loop(seconds);
  const quietly = used();
  const anUnwrap = (of: 'both' | 'database') => (quietly[of] - before[of]) / quiet.times.length;
  const id = await begin(service);
  const [began, usedBefore] = [performance.now(), used()];
  let over = false;
  const moved = untilMoved(service, id, keys + 1).then(() => {
    over = true;
    return performance.now() - began;
  });
  const busy = pooled(
    await slicesUntil(
      () => over,
      () => loop(SLICE_SECONDS),
    ),
  );
  const usedAfter = used();
  const aVersion = (of: 'both' | 'database') =>
    (usedAfter[of] - usedBefore[of] - anUnwrap(of) * busy.all) / (keys + 1);
  const milliseconds = await moved;
  await untilOver(service, id);
  const after = await loop(seconds);
  return {
    versions: keys + 1,
    perSecond: ((keys + 1) * 1_000) / milliseconds,
    quiet: quiet.perSecond,
    busy: busy.perSecond,
    after: after.perSecond,
    p99: { quiet: quiet.p99, busy: busy.p99 },
    processor: {
      version: aVersion('both'),
      database: aVersion('database'),
      unwrap: anUnwrap('both'),
    },
  };
}

async function slicesUntil(over: () => boolean, slice: () => Promise<Load>): Promise<Load[]> {
  const slices: Load[] = [];
  while (!over()) slices.push(await slice());
  return slices;
}

/** Of whole slices beside the rotation, and how many were answered in `all`. */
function pooled(slices: readonly Load[]) {
  const whole = slices.length > 1 ? slices.slice(0, -1) : slices;
  const times = whole.flatMap((each) => [...each.times]).toSorted((a, b) => a - b);
  const seconds = whole.reduce((sum, each) => sum + each.seconds, 0);
  return {
    perSecond: times.length / seconds,
    p99: times[Math.floor((times.length - 1) * 0.99)] ?? Number.NaN,
    all: slices.reduce((sum, each) => sum + each.times.length, 0),
  };
}

async function makeKeys(service: TestService, target: Target, keys: number): Promise<void> {
  const token = await service.token('admin');
  const names = [FOREGROUND, ...Array.from({ length: keys }, (_, n) => `moved-${String(n)}`)];
  const make = async (): Promise<void> => {
    const client = await Client.open(target);
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const body = Buffer.from(JSON.stringify({ name, suite: SUITE }));
      const { status } = await client.send(post('/v1/admin/keys', token, body, 'application/json'));
      if (status !== 201) throw new Error(`a key was answered ${String(status)}`);
    }
    client.close();
  };
  await Promise.all(Array.from({ length: MAKERS }, make));
}

async function begin(service: TestService): Promise<string> {
  for (;;) {
    const path = '/v1/admin/root/rotations';
    const { status, json } = await service.request('POST', path, { reason: 'measured' });
    if (status === 201) return String(json['id']);
    // Instances open a new generation within seconds.
    if (status !== 409) throw new Error(`the rotation was answered ${String(status)}`);
    await sleep(500);
  }
}

const progress = async (service: TestService, id: string): Promise<Progress> =>
  (await service.request('GET', `/v1/admin/root/rotations/${id}`)).json as unknown as Progress;

async function untilMoved(service: TestService, id: string, versions: number): Promise<void> {
  while ((await progress(service, id)).root.versions < versions) await sleep(100);
}

async function untilOver(service: TestService, id: string): Promise<void> {
  for (;;) {
    const { state } = await progress(service, id);
    if (state === 'succeeded') return;
    if (state !== 'running') throw new Error(`the rotation ${state}`);
    await sleep(100);
  }
}

export function renderRootRotation(report: RootRotationReport): string {
  const { versions, perSecond, quiet, busy, after, p99, processor } = report;
  const loss = 1 - busy / ((quiet + after) / 2);
  const over = (is: boolean) => (is ? '' : '  missed');
  return [
    `root rotation: ${String(versions)} versions`,
    `  versions/s            ${perSecond.toFixed(0)}${over(perSecond >= BOUNDS.versions)}`,
    `  unwraps/s             ${quiet.toFixed(0)} before, ${busy.toFixed(0)} meanwhile, ${after.toFixed(0)} after`,
    `  lost                  ${(loss * 100).toFixed(0)} %${over(loss <= BOUNDS.loss)}`,
    `  p99, ms               ${p99.quiet.toFixed(1)} before, ${p99.busy.toFixed(1)} meanwhile`,
    `  processor, µs         ${processor.version.toFixed(0)} a version (${processor.database.toFixed(0)} in the database), ${processor.unwrap.toFixed(0)} an unwrap`,
  ].join('\n');
}
