/**
 * `npm run bench -- algorithms`: single algorithms and hybrids, each operation alone and one after the
 * other, in software and with the classical half in the token; beside figures published elsewhere.
 */
import * as node from 'node:crypto';
import { constants, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';

import { createEngine } from '../src/crypto/combined-engine.ts';
import type { MlKemParameterSet, SignatureParameterSet } from '../src/crypto/engine.ts';
import type { HsmKeySpec } from '../src/crypto/hsm-key.ts';
import { isComposite, isHybridKem } from '../src/crypto/suite.ts';
import { findSuite } from '../src/crypto/suites.ts';
import { openToken } from './token-connection.ts';

const OPERATIONS = ['keygen', 'encrypt', 'decrypt', 'sign', 'verify'] as const;
type Times = Partial<Record<(typeof OPERATIONS)[number], number>>;
type Sizes = Partial<Record<'publicKey' | 'privateKey' | 'signature' | 'ciphertext', number>>;

/** Times are medians in ms, sizes bytes; `elsewhere` is another setup's, from an article of 2025. */
interface Row {
  readonly algorithm: string;
  readonly where: string;
  readonly times: Times;
  readonly sizes: Sizes;
  readonly elsewhere: string | null;
}

type Calls = Partial<Record<(typeof OPERATIONS)[number], () => Promise<unknown>>>;

/** Slow calls are few: at most about 1.5 s for each operation. */
async function median(call: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  await call();
  const end = performance.now() + 1_500;
  while (times.length < 3 || (times.length < 200 && performance.now() < end)) {
    const start = performance.now();
    await call();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;
}

async function timesOf(calls: Calls): Promise<Times> {
  const times: Times = {};
  for (const name of OPERATIONS) {
    const call = calls[name];
    if (call !== undefined) times[name] = await median(call);
  }
  return times;
}

const MESSAGE = randomBytes(128);
const NONE = new Uint8Array(0);
const SHORT = randomBytes(32);
const generateKeyPair = promisify(node.generateKeyPair);
const engine = createEngine();
type Token = Awaited<ReturnType<typeof openToken>>;

const RSA = '45.2 / 0.8 / 23.1 / 25.3 / 0.9';
const ECDSA = '2.1 / - / - / 1.8 / 3.2';

async function rsaSoftware(): Promise<Row> {
  const pair = () => generateKeyPair('rsa', { modulusLength: 2048 });
  const { publicKey, privateKey } = await pair();
  const oaep = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
  const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
  const sealed = node.publicEncrypt({ key: publicKey, ...oaep }, SHORT);
  const signature = node.sign('sha256', MESSAGE, { key: privateKey, ...pss });
  const times = await timesOf({
    keygen: pair,
    encrypt: async () => node.publicEncrypt({ key: publicKey, ...oaep }, SHORT),
    decrypt: async () => node.privateDecrypt({ key: privateKey, ...oaep }, sealed),
    sign: async () => node.sign('sha256', MESSAGE, { key: privateKey, ...pss }),
    verify: async () => node.verify('sha256', MESSAGE, { key: publicKey, ...pss }, signature),
  });
  const sizes = {
    publicKey: publicKey.export({ format: 'der', type: 'pkcs1' }).length,
    privateKey: privateKey.export({ format: 'der', type: 'pkcs1' }).length,
    signature: signature.length,
    ciphertext: sealed.length,
  };
  return { algorithm: 'RSA-2048', where: 'software', times, sizes, elsewhere: RSA };
}

async function ecdsaSoftware(): Promise<Row> {
  const pair = () => generateKeyPair('ec', { namedCurve: 'P-256' });
  const { publicKey, privateKey } = await pair();
  const signature = node.sign('sha256', MESSAGE, privateKey);
  const times = await timesOf({
    keygen: pair,
    sign: async () => node.sign('sha256', MESSAGE, privateKey),
    verify: async () => node.verify('sha256', MESSAGE, publicKey, signature),
  });
  const sizes = { publicKey: 65, privateKey: 32, signature: 72 };
  return { algorithm: 'ECDSA P-256', where: 'software', times, sizes, elsewhere: ECDSA };
}

async function mlKem(set: MlKemParameterSet, privateKey: number, elsewhere: string): Promise<Row> {
  const { seed, publicKey } = await engine.mlKem.generate(set);
  const key = engine.mlKem.importSeed(set, seed);
  const { ciphertext } = await engine.mlKem.encapsulate(set, publicKey);
  const times = await timesOf({
    keygen: () => engine.mlKem.generate(set),
    encrypt: () => engine.mlKem.encapsulate(set, publicKey),
    decrypt: () => key.decapsulate(ciphertext),
  });
  const sizes = { publicKey: publicKey.length, privateKey, ciphertext: ciphertext.length };
  return { algorithm: set, where: 'software', times, sizes, elsewhere };
}

async function pqSignature(
  set: SignatureParameterSet,
  privateKey: number,
  elsewhere: string | null,
): Promise<Row> {
  const { seed, publicKey } = await engine.signatures.generate(set);
  const key = engine.signatures.importSeed(set, seed);
  const signature = await key.sign(MESSAGE, NONE);
  const times = await timesOf({
    keygen: () => engine.signatures.generate(set),
    sign: () => key.sign(MESSAGE, NONE),
    verify: () => engine.signatures.verify(set, publicKey, MESSAGE, signature, NONE),
  });
  const sizes = { publicKey: publicKey.length, privateKey, signature: signature.length };
  const where = `software, ${engine.implementationOf(set) ?? 'absent'}`;
  return { algorithm: set, where, times, sizes, elsewhere };
}

const made = async (token: Token, spec: HsmKeySpec, id: string) => ({
  id,
  spec,
  material: await token.generate(spec, { custody: 'hsm-wrapped' }),
});

async function inToken(token: Token): Promise<Row[]> {
  const rsa = { kind: 'rsa', bits: 2048, use: 'sign', padding: 'pss', hash: 'SHA-256' } as const;
  const ec = { kind: 'ec', curve: 'P-256', use: 'sign' } as const;
  const rows: Row[] = [];
  for (const [algorithm, spec, elsewhere] of [
    ['RSA-2048', rsa, RSA],
    ['ECDSA P-256', ec, ECDSA],
  ] as const) {
    const key = await made(token, spec, `bench ${algorithm}`);
    const times = await timesOf({
      keygen: () => token.generate(spec, { custody: 'hsm-wrapped' }),
      sign: () => token.sign(key, SHORT),
    });
    rows.push({ algorithm, where: 'token', times, sizes: {}, elsewhere });
  }
  return rows;
}

async function hybridKem(token: Token, id: string): Promise<Row> {
  const suite = findSuite(id);
  if (!isHybridKem(suite)) throw new Error(`${id} is no hybrid`);
  const key = await made(token, suite.hsm, `bench ${id}`);
  const { seed, publicKey: pq } = await engine.mlKem.generate(suite.pq);
  const decapsulation = engine.mlKem.importSeed(suite.pq, seed);
  const publicKey = suite.kem.joinPublicKey(engine, { pq, classical: key.material.check });
  const halves = {
    pq: (ciphertext: Uint8Array) => decapsulation.decapsulate(ciphertext),
    classical: (peer: Uint8Array) => token.ecdh(key, peer),
  };
  const sent = await suite.kem.encapsulate(engine, publicKey);
  const times = await timesOf({
    keygen: () => Promise.all([made(token, suite.hsm, 'x'), engine.mlKem.generate(suite.pq)]),
    encrypt: () => suite.kem.encapsulate(engine, publicKey),
    decrypt: () => suite.kem.decapsulate(sent.encapsulation, publicKey, halves),
  });
  const { publicKey: length, encapsulation } = suite.kem.lengths;
  const sizes = { publicKey: length, ciphertext: encapsulation };
  return { algorithm: id, where: 'token and software', times, sizes, elsewhere: null };
}

async function composite(token: Token, id: string): Promise<Row> {
  const suite = findSuite(id);
  if (!isComposite(suite)) throw new Error(`${id} is no composite`);
  const key = await made(token, suite.hsm, `bench ${id}`);
  const { seed, publicKey: pq } = await engine.signatures.generate(suite.pq);
  const signing = engine.signatures.importSeed(suite.pq, seed);
  const publicKey = suite.signer.joinPublicKey({ pq, classical: key.material.check });
  const halves = {
    pq: (message: Uint8Array, context: Uint8Array) => signing.sign(message, context),
    mu: (mu: Uint8Array) => signing.signMu(mu),
    classical: (hash: Uint8Array) => token.sign(key, hash),
  };
  const input = { message: MESSAGE };
  const signature = await suite.signer.sign(input, NONE, halves);
  if (!(await suite.signer.verify(engine, publicKey, input, NONE, signature))) {
    throw new Error(`${id}: a signature does not verify`);
  }
  const times = await timesOf({
    keygen: () => Promise.all([made(token, suite.hsm, 'x'), engine.signatures.generate(suite.pq)]),
    sign: () => suite.signer.sign(input, NONE, halves),
    verify: () => suite.signer.verify(engine, publicKey, input, NONE, signature),
  });
  const { publicKey: length, signatureMax } = suite.signer.lengths;
  const sizes = { publicKey: length, signature: signatureMax };
  return { algorithm: id, where: 'token and software', times, sizes, elsewhere: null };
}

/** Everything, against the token of a service's data folder. */
export async function measureAlgorithms(dataDir: string): Promise<readonly Row[]> {
  const token = await openToken(dataDir);
  try {
    return [
      await rsaSoftware(),
      await ecdsaSoftware(),
      ...(await inToken(token)),
      await mlKem('ML-KEM-1024', 3168, '12.3 / 15.6 / 5.8 / - / -'),
      await pqSignature('ML-DSA-87', 4896, '28.9 / - / - / 45.2 / 12.7'),
      await pqSignature('Falcon-1024', 2305, '15.7 / - / - / 8.9 / 5.3'),
      await pqSignature('SLH-DSA-SHA2-128s', 64, null),
      await pqSignature('SLH-DSA-SHA2-128f', 64, null),
      await hybridKem(token, 'MLKEM768-P256'),
      await hybridKem(token, 'MLKEM1024-P384'),
      await composite(token, 'MLDSA65-ECDSA-P256-SHA512'),
    ];
  } finally {
    await token.close();
    await engine.close();
  }
}

export function renderAlgorithms(rows: readonly Row[]): string {
  const head = [
    'algorithm',
    'where',
    ...OPERATIONS,
    'public',
    'private',
    'signature',
    'ciphertext',
  ];
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const lines = rows.map(({ algorithm, where, times, sizes, elsewhere }) => {
    const { publicKey, privateKey, signature, ciphertext } = sizes;
    const bytes = [publicKey, privateKey, signature, ciphertext].map((n) => String(n ?? '-'));
    const ms = OPERATIONS.map((name) => times[name]?.toFixed(2) ?? '-');
    return line([algorithm, where, ...ms, ...bytes, elsewhere ?? '-']);
  });
  const titles = [...head, 'published elsewhere, another setup'];
  return [line(titles), line(titles.map(() => '---')), ...lines].join('\n');
}
