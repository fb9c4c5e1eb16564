/** What the parts do alone, in processes of their own, in the same minutes as the service. */
import { execFile, spawn } from 'node:child_process';
import {
  createPrivateKey,
  decapsulate,
  encapsulate,
  generateKeyPairSync,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { generatorOf } from '../src/crypto/point.ts';
import { nativeEngine } from '../src/crypto/native-engine.ts';
import { isHybridKem } from '../src/crypto/suite.ts';
import { findSuite } from '../src/crypto/suites.ts';
import { closedLoop } from './load.ts';
import type { RawLimit, RawName } from './report.ts';

const NODE_FLAGS = ['--disable-warning=ExperimentalWarning'];
const TOKEN_NAMES: Readonly<Record<string, RawName>> = {
  'ecdh:P-256': 'derive P-256',
  'ecdh:P-384': 'derive P-384',
  'ecdsa:P-256': 'sign P-256',
  'ecdsa:P-384': 'sign P-384',
  'aes-gcm encrypt 64 B': 'AES-GCM encrypt',
  'aes-gcm decrypt 64 B': 'AES-GCM decrypt',
  'hmac:SHA-256 64 B': 'HMAC-SHA-256',
  'random 32 B': 'random',
};

interface RawToken {
  readonly rates: readonly { readonly operation: string; readonly perSecond: number }[];
  readonly leakedBytesPerObject: number;
}

const script = (name: string): string => join(import.meta.dirname, name);

async function run<T>(name: string, ...args: string[]): Promise<T> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...NODE_FLAGS,
    script(name),
    ...args,
  ]);
  return JSON.parse(stdout) as T;
}

/** The token of a data folder, called by one process and by two at once (their sum). */
export async function tokenLimits(dataDir: string) {
  const alone = await run<RawToken>('raw-token.ts', dataDir);
  const both = await Promise.all([1, 2].map(() => run<RawToken>('raw-token.ts', dataDir)));
  const rates = (runs: readonly RawToken[]): readonly RawLimit[] =>
    alone.rates.flatMap(({ operation }): readonly RawLimit[] => {
      const name = TOKEN_NAMES[operation];
      if (name === undefined) return [];
      const each = runs.map((token) => token.rates.find((rate) => rate.operation === operation));
      const perSecond = each.reduce((sum, rate) => sum + (rate?.perSecond ?? 0), 0);
      const processes = runs.length;
      return [{ name, of: `token, ${String(processes)} process(es)`, processes, perSecond }];
    });
  return {
    limits: [...rates([alone]), ...rates(both)],
    leakedBytesPerObject: alone.leakedBytesPerObject,
  };
}

/** OpenSSL by `node:crypto`, one call after the other on one thread. */
export async function openSslLimits(seconds: number): Promise<readonly RawLimit[]> {
  const kem = generateKeyPairSync('ml-kem-768');
  const { ciphertext } = encapsulate(kem.publicKey);
  const dsa = generateKeyPairSync('ml-dsa-65');
  const dsaKey = createPrivateKey(dsa.privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const message = randomBytes(128);
  const signature = sign(null, message, dsaKey);
  const suite = findSuite('MLKEM768-P256');
  if (!isHybridKem(suite)) throw new Error('not a hybrid KEM');
  const { publicKey: pq } = await nativeEngine.mlKem.generate(suite.pq);
  const joined = suite.kem.joinPublicKey(nativeEngine, { pq, classical: generatorOf('P-256') });
  const calls: readonly (readonly [RawName, () => unknown])[] = [
    ['ML-KEM-768 encapsulate', () => encapsulate(kem.publicKey)],
    ['ML-KEM-768 decapsulate', () => decapsulate(kem.privateKey, ciphertext)],
    ['hybrid encapsulation', () => suite.kem.encapsulate(nativeEngine, joined)],
    ['ML-DSA-65 sign', () => sign(null, message, dsaKey)],
    ['ML-DSA-65 verify', () => verify(null, message, dsa.publicKey, signature)],
  ];
  const limits: RawLimit[] = [];
  for (const [name, call] of calls) {
    const until = performance.now() + seconds * 1000;
    const began = performance.now();
    let made = 0;
    for (; performance.now() < until; made += 1) await call();
    const perSecond = (made * 1000) / (performance.now() - began);
    limits.push({ name, of: 'OpenSSL, one thread', processes: 1, perSecond });
  }
  return limits;
}

/** Servers that do less, under the service's own load at 16 in flight; and commits one by one. */
export async function serverLimits(
  dataDir: string,
  request: Buffer,
  seconds: number,
): Promise<readonly RawLimit[]> {
  const commit = await run<{ readonly perSecond: number }>('raw-commit.ts', String(seconds * 1000));
  const of16 = (name: RawName, of: string, perSecond: number): RawLimit => ({
    name,
    of: `${of}, 16 in flight`,
    processes: 1,
    perSecond,
  });
  const http = await serverRate(request, seconds, 'raw-http.ts', 'http');
  const express = await serverRate(request, seconds, 'raw-http.ts', 'express');
  const parts = await serverRate(request, seconds, 'bare.ts', dataDir);
  return [
    of16('bare http', 'node:http, 32 bytes', http),
    of16('bare Express', 'Express, 32 bytes', express),
    { name: 'bare commit', of: 'PostgreSQL, one by one', processes: 1, ...commit },
    of16('bare parts', 'Express, derive, decapsulation, durable row', parts),
  ];
}

/** Of a script that prints its port and serves until SIGTERM. */
async function serverRate(
  request: Buffer,
  seconds: number,
  name: string,
  arg: string,
): Promise<number> {
  const child = spawn(process.execPath, [...NODE_FLAGS, script(name), arg], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  try {
    const [port] = (await Promise.race([once(child.stdout, 'data'), ended])) as [unknown];
    const target = { url: new URL(`http://127.0.0.1:${String(port).trim()}`) };
    await closedLoop(target, request, { inFlight: 16, seconds });
    return (await closedLoop(target, request, { inFlight: 16, seconds })).perSecond;
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}
