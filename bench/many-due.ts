/**
 * Very many keys that fall due in one moment, as when a namespace gets a policy that all of them are late
 * for: whether unwraps of another key are answered beside that, and whether the budget is held. The keys
 * are copies of one by SQL, with MACs of the root, and all became active in one second.
 */
import type { TestService } from '../test/e2e/service.ts';
import { copyKey } from '../test/store/key-copies.ts';
import { post } from './client.ts';
import type { Target } from './client.ts';
import { connected } from './connected.ts';
import { ServiceProcesses } from './cpu.ts';
import { closedLoop, openLoop } from './load.ts';
import type { Load } from './load.ts';

const SUITE = 'MLKEM768-P256';
const DAY_MS = 86_400_000;
const AGE_MS = 60 * DAY_MS;
const CLOSED = 16;
/** Arrivals of the foreground, of what a closed loop reaches. */
const SHARE = 0.5;
const CONNECTIONS = 128;

export interface ManyDueOptions {
  readonly keys: number;
  /** Of one slice. */
  readonly seconds: number;
  readonly quiet: number;
  readonly busy: number;
}

interface Answers {
  readonly answered: number;
  readonly perSecond: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly longest: number;
}

export interface ManyDueReport {
  readonly keys: number;
  readonly loadedSeconds: number;
  /** By the plan, of keys that became active in one second: the most that fall due in one minute of 90 days later. */
  readonly plannedPeakMinute: number;
  readonly planSeconds: number;
  /** Of the policy for which all are late. */
  readonly dryRunSeconds: number;
  readonly quiet: Answers;
  readonly busy: Answers;
  readonly busySeconds: number;
  readonly looked: number;
  readonly rotated: number;
  readonly mostInAMinute: number;
  readonly failing: number;
  /** Processor seconds a second beside the busy answers. */
  readonly serverCpu: number;
  readonly databaseCpu: number;
}

function pooled(loads: readonly Load[], seconds: number): Answers {
  const times = Float64Array.from(loads.flatMap((load) => [...load.times])).sort();
  const at = (share: number) => times[Math.floor((times.length - 1) * share)] ?? Number.NaN;
  return {
    answered: times.length,
    perSecond: times.length / seconds,
    p50: at(0.5),
    p99: at(0.99),
    longest: at(1),
  };
}

async function asked(service: TestService, method: string, path: string, body?: object) {
  const { status, json, bytes } = await service.request(method, path, body);
  if (status >= 300) throw new Error(`${path}: ${String(status)} ${bytes.toString('utf8')}`);
  return json;
}

/** Makes its keys in a service that has few, and measures. @throws Error when an unwrap fails or opens wrongly */
export async function measureManyDue(
  service: TestService,
  { keys, seconds, quiet, busy }: ManyDueOptions,
): Promise<ManyDueReport> {
  return connected(service, async ({ owner, store, root }) => {
    const { id } = await asked(service, 'POST', '/v1/admin/keys', { name: 'due', suite: SUITE });
    await asked(service, 'POST', '/v1/admin/keys', { name: 'foreground', suite: SUITE });
    const began = performance.now();
    const activatedAt = new Date(Math.floor(Date.now() / 1_000) * 1_000 - AGE_MS);
    const copies = { of: String(id), count: keys, prefix: 'due-', activatedAt };
    await copyKey(owner, store, (data) => root.mac(data), copies);
    const loadedSeconds = (performance.now() - began) / 1_000;
    process.stderr.write(`${String(keys)} keys in ${loadedSeconds.toFixed(0)} s\n`);
    const unwraps = await foreground(service, seconds);
    const before = await unwraps(quiet);
    const policy = '/v1/admin/rotation-policies/all';
    const trying = performance.now();
    const terms = { selector: {}, interval: 'P30D' };
    await asked(service, 'PUT', `${policy}?dryRun=true`, terms);
    const dryRunSeconds = (performance.now() - trying) / 1_000;
    const [due] = (await owner.query<{ at: Date }>('select clock_timestamp() as at')).rows;
    await asked(service, 'PUT', policy, terms);
    const processes = new ServiceProcesses(service.pid, service.dataDir);
    const [start, since] = [processes.cpu(), performance.now()];
    const beside = await unwraps(busy);
    const busySeconds = (performance.now() - since) / 1_000;
    const used = processes.cpu();
    const { rows } = await owner.query<
      Pick<ManyDueReport, 'looked' | 'rotated' | 'mostInAMinute' | 'failing'>
    >(COUNTS, [due?.at]);
    const [counts] = rows;
    if (counts === undefined) throw new Error('nothing was counted');
    const ahead = { selector: {}, priority: 1, interval: 'P150D' };
    await asked(service, 'PUT', '/v1/admin/rotation-policies/ahead', ahead);
    const planning = performance.now();
    const plan = await asked(service, 'GET', '/v1/admin/rotation-plan?days=120&pageSize=1');
    const planSeconds = (performance.now() - planning) / 1_000;
    return {
      ...{ keys, loadedSeconds, planSeconds, dryRunSeconds, busySeconds, ...counts },
      plannedPeakMinute: Number((plan['peakMinute'] as { rotations?: unknown }).rotations),
      quiet: pooled(before, quiet * seconds),
      busy: pooled(beside, busySeconds),
      serverCpu: (used.server - start.server) / busySeconds,
      databaseCpu: (used.database - start.database) / busySeconds,
    };
  });
}

/** Of any 60 s that begin with a rotation. */
const COUNTS = `with done as (
    select done_at from public.scheduled_run where action like 'rotate/%' and done_at >= $1
  ), looked as (
    select count(*)::integer as n from public.key_schedule where next_at > '-infinity'
  )
  select (select n from looked) as looked, (select count(*)::integer from done) as rotated,
    coalesce((select max(n) from (
      select count(*) over (order by done_at range between current row and interval '60 s' following) as n
      from done) w), 0)::integer as "mostInAMinute",
    (select count(*)::integer from public.key_schedule where failures > 0) as failing`;

/** Slices of unwraps at a fixed rate. */
async function foreground(service: TestService, seconds: number) {
  const target: Target = { url: new URL(service.url) };
  const plaintext = Buffer.alloc(32, 7);
  const wrapped = await service.request('POST', '/v1/keys/foreground/wrap', plaintext, {
    headers: { Accept: 'application/octet-stream' },
  });
  const request = post('/v1/keys/foreground/unwrap', await service.token('user'), wrapped.bytes);
  await closedLoop(target, request, { inFlight: CLOSED, seconds });
  const { perSecond } = await closedLoop(target, request, { inFlight: CLOSED, seconds });
  return async (slices: number): Promise<readonly Load[]> => {
    const loads: Load[] = [];
    for (let slice = 0; slice < slices; slice += 1) {
      const load = await openLoop(target, request, {
        ...{ arrivalsPerSecond: perSecond * SHARE, seconds, connections: CONNECTIONS },
      });
      if (!load.answers.every((bytes) => bytes.equals(plaintext))) {
        throw new Error('an answer is wrong');
      }
      loads.push({ ...load, answers: [] });
    }
    return loads;
  };
}

const told = ({ answered, perSecond, p50, p99, longest }: Answers): string =>
  `${String(answered)} unwraps, ${perSecond.toFixed(0)}/s, p50 ${p50.toFixed(2)}, p99 ${p99.toFixed(2)}, longest ${longest.toFixed(0)} ms`;

export function renderManyDue(report: ManyDueReport): string {
  const { keys, quiet, busy, busySeconds, looked, rotated, mostInAMinute, failing } = report;
  return [
    `${String(keys)} keys of one second, loaded in ${report.loadedSeconds.toFixed(0)} s`,
    `plan of 120 days: ${report.planSeconds.toFixed(1)} s; at most ${String(report.plannedPeakMinute)} due in one minute; dry run of the policy that all are late for: ${report.dryRunSeconds.toFixed(1)} s`,
    `quiet: ${told(quiet)}`,
    `all due at once: ${told(busy)}, p99 ratio ${(busy.p99 / quiet.p99).toFixed(2)}`,
    `in ${busySeconds.toFixed(0)} s: ${String(looked)} looked at, ${String(rotated)} rotated, at most ${String(mostInAMinute)} in 60 s, ${String(failing)} failing; processor time ${report.serverCpu.toFixed(2)} of the server, ${report.databaseCpu.toFixed(2)} of the database`,
  ].join('\n');
}
