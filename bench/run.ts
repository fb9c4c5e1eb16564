/**
 * `npm run bench`: raw limits and the service in one run, on the same machine and at the same time of
 * day, so that the ratio means something where absolute figures do not. The load generator shares
 * the machine with the service. Bounds are printed, never asserted: a benchmark is no test.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  createPrivateKey,
  decapsulate,
  generateKeyPairSync,
  encapsulate,
  randomBytes,
  sign,
} from 'node:crypto';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';

import { TestService } from '../test/e2e/service.ts';
import { load, post } from './client.ts';
import type { Load } from './client.ts';

const QUICK = process.argv.includes('--quick');
const SCALE = QUICK ? 0.1 : 1;
const BYTES = 'application/octet-stream';

interface RawToken {
  readonly rates: readonly {
    readonly operation: string;
    readonly perSecond: number;
    readonly microseconds: number;
  }[];
  readonly leakedBytesPerObject: number;
}

interface Row {
  readonly what: string;
  readonly figure: string;
  readonly bound: string;
  readonly met: boolean | null;
}

const rows: Row[] = [];
const row = (what: string, figure: string, bound = '', met: boolean | null = null): void => {
  rows.push({ what, figure, bound, met });
};

/** The token of the service's data folder, measured in a process of its own. */
function rawToken(dataDir: string): RawToken {
  const script = join(import.meta.dirname, 'raw-token.ts');
  const flags = ['--disable-warning=ExperimentalWarning', script, dataDir];
  const run = spawnSync(process.execPath, flags, { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout) as RawToken;
}

/** The load on the same parts with nothing between them, from the start of bare.ts to its end. */
async function bareParts(dataDir: string, request: Buffer): Promise<Load> {
  const flags = ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, 'bare.ts')];
  const bare = spawn(process.execPath, [...flags, dataDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(bare, 'exit');
  try {
    const [port] = (await Promise.race([once(bare.stdout, 'data'), ended])) as [unknown];
    const url = new URL(`http://127.0.0.1:${String(port).trim()}`);
    await load(url, request, { inFlight: 16, requests: 5_000 * SCALE });
    return await load(url, request, { inFlight: 16, requests: 15_000 * SCALE });
  } finally {
    bare.kill('SIGTERM');
    await ended;
  }
}

/** Microseconds of one synchronous call, median of many. */
function microseconds(call: () => void, calls: number): number {
  const times = Array.from({ length: calls }, () => {
    const start = performance.now();
    call();
    return (performance.now() - start) * 1000;
  }).sort((a, b) => a - b);
  return times[Math.floor(calls / 2)] ?? 0;
}

function rawOpenSsl() {
  const kem = generateKeyPairSync('ml-kem-768');
  const { ciphertext } = encapsulate(kem.publicKey);
  const dsa = generateKeyPairSync('ml-dsa-65');
  const dsaKey = createPrivateKey(dsa.privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const message = randomBytes(128);
  return {
    decapsulate: microseconds(() => void decapsulate(kem.privateKey, ciphertext), 2_000),
    sign: microseconds(() => void sign(null, message, dsaKey), 500),
  };
}

const rss = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1]) * 1024;

const rate = ({ perSecond, p50, p99 }: Load): string =>
  `${perSecond.toFixed(0)}/s, p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`;

async function wrapped(service: TestService, key: string): Promise<Buffer> {
  const headers = { Accept: BYTES };
  const answer = await service.request('POST', `/v1/keys/${key}/wrap`, randomBytes(32), {
    headers,
  });
  if (answer.status !== 200) throw new Error(answer.bytes.toString('utf8'));
  return answer.bytes;
}

async function createKeys(service: TestService): Promise<void> {
  const suites = {
    hybrid: 'MLKEM768-P256',
    symmetric: 'A256GCM',
    signer: 'MLDSA65-ECDSA-P256-SHA512',
  };
  for (const [name, suite] of Object.entries(suites)) {
    const { status, bytes } = await service.request('POST', '/v1/admin/keys', { name, suite });
    if (status !== 201) throw new Error(bytes.toString('utf8'));
  }
}

/** RSS over many operations, and the slope of the second half less the token's own leak. */
async function memory(
  service: TestService,
  url: URL,
  request: Buffer,
  leak: number,
): Promise<void> {
  const operations = 100_000 * SCALE;
  const samples: { readonly at: number; readonly bytes: number }[] = [];
  const onEach = (index: number) => {
    if (index % 1_000 === 0) samples.push({ at: index, bytes: rss(service.pid) });
  };
  await load(url, request, { inFlight: 16, requests: operations, onEach });
  const end = rss(service.pid);
  row(
    `RSS after ${String(operations)} unwraps`,
    `${(end / 1e6).toFixed(0)} MB`,
    '< 300 MB',
    end < 300e6,
  );
  const half = samples.filter(({ at }) => at >= operations / 2);
  const slope = leastSquares(half) - leak;
  row(
    'slope of the second half, less the token’s leak',
    `${slope.toFixed(0)} B/operation (token ${leak.toFixed(0)} B)`,
    '< 50 B',
    slope < 50,
  );
}

function leastSquares(samples: readonly { readonly at: number; readonly bytes: number }[]): number {
  const n = samples.length;
  const meanX = samples.reduce((sum, { at }) => sum + at, 0) / n;
  const meanY = samples.reduce((sum, { bytes }) => sum + bytes, 0) / n;
  const covariance = samples.reduce(
    (sum, { at, bytes }) => sum + (at - meanX) * (bytes - meanY),
    0,
  );
  return covariance / samples.reduce((sum, { at }) => sum + (at - meanX) ** 2, 0);
}

async function measure(service: TestService): Promise<void> {
  await createKeys(service);
  const url = new URL(service.url);
  const token = await service.token('user');
  const raw = rawToken(service.dataDir);
  const openSsl = rawOpenSsl();
  const of = (operation: string) => {
    const found = raw.rates.find((candidate) => candidate.operation === operation);
    if (found === undefined) throw new Error(`no raw rate of ${operation}`);
    return found;
  };
  for (const { operation, perSecond, microseconds: each } of raw.rates) {
    row(`raw token: ${operation}`, `${perSecond.toFixed(0)}/s, ${each.toFixed(0)} µs`);
  }
  row('raw OpenSSL: ML-KEM-768 decapsulation', `${openSsl.decapsulate.toFixed(0)} µs`);
  row('raw OpenSSL: ML-DSA-65 signature', `${openSsl.sign.toFixed(0)} µs`);

  const request = (path: string, body: Uint8Array) => post(path, token, body, BYTES);
  const unwrap = request('/v1/keys/hybrid/unwrap', await wrapped(service, 'hybrid'));
  const symmetric = request('/v1/keys/symmetric/unwrap', await wrapped(service, 'symmetric'));
  const signature = request('/v1/keys/signer/sign', randomBytes(128));
  const wrap = request('/v1/keys/hybrid/wrap', randomBytes(32));
  await load(url, unwrap, { inFlight: 16, requests: 5_000 * SCALE });

  const derive = of('ecdh:P-256');
  const many = await load(url, unwrap, { inFlight: 16, requests: 30_000 * SCALE });
  const share = many.perSecond / derive.perSecond;
  row('hybrid unwrap, 16 in flight', rate(many));
  row('… of the raw derive rate', `${(share * 100).toFixed(0)} %`, '>= 40 %', share >= 0.4);
  const bare = await bareParts(service.dataDir, unwrap);
  row('its parts with nothing between (bare.ts), 16 in flight', rate(bare));
  const bareShare = (bare.perSecond / derive.perSecond) * 100;
  const ofBare = (many.perSecond / bare.perSecond) * 100;
  row('… of the raw derive rate', `${bareShare.toFixed(0)} %`);
  row('hybrid unwrap, of its bare parts', `${ofBare.toFixed(0)} %`);
  const one = await load(url, unwrap, { inFlight: 1, requests: 5_000 * SCALE });
  row('hybrid unwrap, one in flight', rate(one), 'p50 < 1.5 ms', one.p50 < 1.5);
  row(
    'hybrid wrap, 16 in flight',
    rate(await load(url, wrap, { inFlight: 16, requests: 10_000 * SCALE })),
  );
  row(
    'A256GCM unwrap, 16 in flight',
    rate(await load(url, symmetric, { inFlight: 16, requests: 10_000 * SCALE })),
  );
  const signs = await load(url, signature, { inFlight: 16, requests: 5_000 * SCALE });
  row('composite sign through REST, 16 in flight', rate(signs));
  await memory(service, url, unwrap, raw.leakedBytesPerObject);
}

async function compositeAgainstHalves(service: TestService): Promise<void> {
  const script = join(import.meta.dirname, 'composite.ts');
  const flags = ['--disable-warning=ExperimentalWarning', script, service.dataDir];
  const run = spawnSync(process.execPath, flags, { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr);
  const { composite, pq, classical } = JSON.parse(run.stdout) as Record<
    'composite' | 'pq' | 'classical',
    number
  >;
  const ratio = composite / Math.max(pq, classical);
  row(
    'composite sign: both halves in parallel',
    `${composite.toFixed(0)} µs (ML-DSA ${pq.toFixed(0)}, ECDSA ${classical.toFixed(0)})`,
  );
  row('… against the slower half', `${ratio.toFixed(2)}x`, '<= 1.5x', ratio <= 1.5);
}

const service = await TestService.start();
try {
  await measure(service);
  await compositeAgainstHalves(service);
} finally {
  await service.destroy();
}
const { model = 'unknown' } = cpus()[0] ?? {};
process.stdout.write(`${String(cpus().length)} x ${model}, Node ${process.versions.node}\n\n`);
process.stdout.write('| what | figure | bound | met |\n| --- | --- | --- | --- |\n');
for (const { what, figure, bound, met } of rows) {
  process.stdout.write(
    `| ${what} | ${figure} | ${bound} | ${met === null ? '' : met ? 'yes' : 'NO'} |\n`,
  );
}
