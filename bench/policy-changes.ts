/**
 * What a stream of policy changes costs those who unwrap meanwhile: an open loop, so that whatever a change
 * holds up is part of the latency, in slices with and without changes by turns. What a change takes of the
 * processor is what is used in slices with changes beyond those without, so it holds on a shared machine too.
 */
import type { TestService } from '../test/e2e/service.ts';
import { post } from './client.ts';
import type { Target } from './client.ts';
import { ServiceProcesses } from './cpu.ts';
import { openLoop } from './load.ts';
import { median } from './slices.ts';

const KEY = 'foreground';
const CONNECTIONS = 32;
/** What foreground requests may lose, ms. */
const BOUNDS = { p50: 1, p99: 5 } as const;

export interface PolicyChangesSize {
  /** Of the namespace, beside the ones of the roles. */
  readonly policies: number;
  /** With changes, and as many without. */
  readonly slices: number;
  readonly seconds: number;
  readonly arrivalsPerSecond: number;
  readonly changesPerSecond: number;
}

/** Milliseconds. */
interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly most: number;
}

export interface PolicyChangesReport extends PolicyChangesSize {
  readonly quiet: Latency;
  readonly changing: Latency;
  /** Medians over pairs of slices: with changes less without. */
  readonly cost: Latency;
  /** Of the changes themselves, and how many there were. */
  readonly change: Latency & { readonly count: number };
  /** Milliseconds of the processor that a change takes, in the service (its threads too) and its database. */
  readonly processor: { readonly server: number; readonly database: number };
}

const latencyOf = (times: readonly number[]): Latency => {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.floor((sorted.length - 1) * part)] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99), most: at(1) };
};

const policy = (n: number): string =>
  `permit (principal in Role::"r${String(n)}", action == Action::"wrap", resource in Namespace::"default")
when { context has encryptionContext && context.encryptionContext.hasTag("tenant")
  && context.encryptionContext.getTag("tenant") == "t${String(n)}" };`;

/** One policy among others, said anew each time. */
class Changing {
  readonly #service: TestService;
  readonly #perSecond: number;
  readonly times: number[] = [];
  #revision = 0;

  constructor(service: TestService, perSecond: number) {
    this.#service = service;
    this.#perSecond = perSecond;
  }

  async put(n: number, name: string, revision?: number): Promise<number> {
    const headers = revision === undefined ? {} : { 'If-Match': `"${String(revision)}"` };
    const path = `/v1/admin/policies/${name}`;
    const body = { cedar: policy(n) };
    const { status, json } = await this.#service.request('PUT', path, body, { headers });
    if (status !== 200) throw new Error(`a policy was answered ${String(status)}`);
    return Number(json['setRevision']);
  }

  async begin(policies: number): Promise<void> {
    for (let n = 0; n < policies; n += 1) {
      this.#revision = await this.put(n, `p${String(n)}`);
    }
    this.#revision = await this.put(policies, 'changing');
  }

  /** Changes at fixed times, each once the one before is answered. */
  async during(seconds: number): Promise<void> {
    const began = performance.now();
    for (let n = 0; n < seconds * this.#perSecond; n += 1) {
      const due = began + (n * 1_000) / this.#perSecond;
      const wait = due - performance.now();
      if (wait > 0) await new Promise((passed) => setTimeout(passed, wait));
      const sent = performance.now();
      this.#revision = await this.put(100_000 + this.times.length, 'changing', this.#revision);
      this.times.push(performance.now() - sent);
    }
  }
}

/** @throws Error when an unwrap or a change fails */
export async function measurePolicyChanges(
  service: TestService,
  size: PolicyChangesSize,
): Promise<PolicyChangesReport> {
  const { policies, slices, seconds, arrivalsPerSecond, changesPerSecond } = size;
  const target: Target = { url: new URL(service.url) };
  await service.request('POST', '/v1/admin/keys', { name: KEY, suite: 'MLKEM768-P256' });
  const wrapped = await service.request('POST', `/v1/keys/${KEY}/wrap`, Buffer.alloc(32, 7), {
    headers: { Accept: 'application/octet-stream' },
  });
  const request = post(`/v1/keys/${KEY}/unwrap`, await service.token('user'), wrapped.bytes);
  const changing = new Changing(service, changesPerSecond);
  await changing.begin(policies);
  const load = async () => {
    const found = await openLoop(target, request, {
      ...{ arrivalsPerSecond, seconds, connections: CONNECTIONS },
    });
    return [...found.times];
  };
  await load();
  const [without, meanwhile]: [number[][], number[][]] = [[], []];
  const processes = new ServiceProcesses(service.pid, service.dataDir);
  const used = { server: 0, database: 0 };
  /** `sign` is -1 where what is used is to be taken off. */
  const counted = async (sign: 1 | -1, act: () => Promise<unknown>) => {
    const before = processes.cpu();
    await act();
    const after = processes.cpu();
    used.server += sign * (after.server - before.server);
    used.database += sign * (after.database - before.database);
  };
  const beside = () =>
    counted(1, async () => {
      const [times] = await Promise.all([load(), changing.during(seconds)]);
      meanwhile.push(times);
    });
  const alone = () => counted(-1, async () => without.push(await load()));
  for (let n = 0; n < slices; n += 1) {
    // Each goes first every other time.
    await (n % 2 === 0 ? alone() : beside());
    await (n % 2 === 0 ? beside() : alone());
  }
  const pairs = without.map(
    (times, n) => [latencyOf(times), latencyOf(meanwhile[n] ?? [])] as const,
  );
  const cost = (part: keyof Latency) =>
    median(pairs.map(([quiet, busy]) => busy[part] - quiet[part]));
  return {
    ...size,
    quiet: latencyOf(without.flat()),
    changing: latencyOf(meanwhile.flat()),
    cost: { p50: cost('p50'), p99: cost('p99'), most: cost('most') },
    change: { ...latencyOf(changing.times), count: changing.times.length },
    processor: {
      server: (used.server * 1_000) / changing.times.length,
      database: (used.database * 1_000) / changing.times.length,
    },
  };
}

export function renderPolicyChanges(report: PolicyChangesReport): string {
  const { quiet, changing, cost, change } = report;
  const line = (name: string, { p50, p99, most }: Latency) =>
    `  ${name.padEnd(22)}${[p50, p99, most].map((each) => each.toFixed(2).padStart(9)).join('')}`;
  const met = cost.p50 < BOUNDS.p50 && cost.p99 < BOUNDS.p99;
  return [
    `policy changes: ${String(report.policies)} policies, ${String(report.arrivalsPerSecond)} unwraps/s, ${String(report.changesPerSecond)} changes/s (${String(change.count)} in all)`,
    `  milliseconds              p50      p99     most`,
    line('unwraps, no change', quiet),
    line('unwraps, changes', changing),
    line('cost (median of pairs)', cost),
    line('a change', change),
    `  processor, ms a change ${report.processor.server.toFixed(1)} service, ${report.processor.database.toFixed(1)} database`,
    `${met ? 'met    ' : 'NOT MET'} a change of policies costs foreground requests: p50 < ${String(BOUNDS.p50)} ms, p99 < ${String(BOUNDS.p99)} ms more`,
  ].join('\n');
}
