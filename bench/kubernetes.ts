/**
 * `npm run bench -- kubernetes`: the provider inside a running service, through its socket: what an API
 * server waits for, and how long ten thousand Decrypts take after a restart.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { TestService } from '../test/e2e/service.ts';
import type { Encrypted } from '../test/kubernetes/apiserver.ts';
import { eventually } from '../test/store/eventually.ts';
import { KmsClient } from './kms-client.ts';

const SUITES = ['A256GCM', 'MLKEM768-P256'];
const IN_FLIGHT = 8;
/** Values that were sealed before: more than the service remembers, so that most are opened in the HSM. */
const SOURCES = 10_000;
const RESTART_IN_FLIGHT = 64;
const WARM_UP = 200;

interface Sealed {
  readonly plaintext: Buffer;
  readonly encrypted: Encrypted;
}

export interface CallTimes {
  readonly suite: string;
  readonly call: string;
  readonly calls: number;
  readonly p50: number;
  readonly p99: number;
}

export interface KubernetesReport {
  readonly times: readonly CallTimes[];
  readonly restarts: readonly {
    readonly suite: string;
    readonly values: number;
    readonly seconds: number;
  }[];
}

const at = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;

/** `count` calls, so many at once; milliseconds of each, ascending. */
async function timed(count: number, inFlight: number, call: (n: number) => Promise<unknown>) {
  const took: number[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) {
      const n = next;
      next += 1;
      const began = performance.now();
      await call(n);
      took.push(performance.now() - began);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
  return took.toSorted((a, b) => a - b);
}

async function measureSuite(suite: string, calls: number) {
  const folder = mkdtempSync(join(tmpdir(), 'kms-'));
  const socket = join(folder, 'kms.sock');
  const args = ['--kms-socket', socket, '--kms-key', 'secrets', '--kms-suite', suite];
  const service = await TestService.start({ args });
  let plugin: KmsClient | undefined;
  try {
    await eventually(() => Promise.resolve(existsSync(socket)));
    const client = (plugin = new KmsClient(socket));
    await eventually(async () => (await client.status().catch(() => null))?.healthz === 'ok');
    const values: Sealed[] = [];
    await timed(SOURCES, RESTART_IN_FLIGHT, async (n) => {
      const plaintext = randomBytes(32);
      values[n] = { plaintext, encrypted: await client.encrypt(plaintext, randomUUID()) };
    });
    // Only what comes back as it was counts.
    const open = async (n: number): Promise<void> => {
      const sealed = values[n % SOURCES];
      if (sealed === undefined) throw new Error('nothing was sealed');
      const opened = await client.decrypt(sealed.encrypted, randomUUID());
      if (!sealed.plaintext.equals(opened)) throw new Error('another plaintext');
    };
    const kinds: readonly (readonly [string, number, (n: number) => Promise<unknown>])[] = [
      ['Status', 1, () => client.status()],
      ['Encrypt', IN_FLIGHT, () => client.encrypt(randomBytes(32), randomUUID())],
      ['Decrypt', IN_FLIGHT, open],
      ['Decrypt of one value', IN_FLIGHT, () => open(0)],
    ];
    const times: CallTimes[] = [];
    for (const [call, inFlight, run] of kinds) {
      await timed(WARM_UP, inFlight, run);
      const took = await timed(calls, inFlight, run);
      times.push({ suite, call, calls, p50: at(took, 0.5), p99: at(took, 0.99) });
    }
    const began = performance.now();
    await timed(SOURCES, RESTART_IN_FLIGHT, open);
    const seconds = (performance.now() - began) / 1e3;
    return { times, restart: { suite, values: SOURCES, seconds } };
  } finally {
    plugin?.close();
    await service.destroy();
    rmSync(folder, { recursive: true, force: true });
  }
}

export async function measureKubernetes(quick: boolean): Promise<KubernetesReport> {
  const times: CallTimes[] = [];
  const restarts: KubernetesReport['restarts'][number][] = [];
  for (const suite of SUITES) {
    const measured = await measureSuite(suite, quick ? 2_000 : 10_000);
    times.push(...measured.times);
    restarts.push(measured.restart);
  }
  return { times, restarts };
}

const ms = (value: number): string => value.toFixed(2).padStart(8);

export function renderKubernetes({ times, restarts }: KubernetesReport): string {
  const lines = times.map(
    ({ suite, call, p50, p99 }) => `${suite.padEnd(14)} ${call.padEnd(22)}${ms(p50)}${ms(p99)}`,
  );
  const starts = restarts.map(
    ({ suite, values, seconds }) =>
      `${suite.padEnd(14)} ${String(values)} Decrypts of different values: ${seconds.toFixed(1)} s`,
  );
  const head = `suite          call, ms, 8 in flight      p50     p99`;
  return [head, ...lines, '', ...starts].join('\n');
}
