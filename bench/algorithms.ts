/**
 * `npm run bench -- algorithms`: single algorithms and hybrids, each operation alone and one after the
 * other, in software and with the classical half in the token; beside figures published elsewhere.
 *
 * No row is measured before it has shown that it works: what was encapsulated is opened to the same
 * secret, what was signed verifies, and not over another message.
 */
import * as node from 'node:crypto';
import { constants, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';

import { createEngine } from '../src/crypto/combined-engine.ts';
import type { Engine, SeedPair } from '../src/crypto/engine.ts';
import type { KemSuite, SignatureSuite, Suite } from '../src/crypto/suite.ts';
import { findSuite } from '../src/crypto/suites.ts';
import type { Hsm } from '../src/hsm/port.ts';
import { softwareHalves, tokenHalves } from './classical-half.ts';
import type { ClassicalHalves, ClassicalKey } from './classical-half.ts';
import { openToken } from './token-connection.ts';

const OPERATIONS = ['keygen', 'encrypt', 'decrypt', 'sign', 'verify'] as const;
type Times = Partial<Record<(typeof OPERATIONS)[number], number>>;

/** Bytes; null where there is none or, of RSA's private key, where it differs from key to key. */
interface Sizes {
  readonly publicKey: number;
  /** In the form of its standard; ML-KEM's expanded dk. */
  readonly privateKey: number | null;
  /** What lies in the database in its place: seed, and the half that the token wrapped. */
  readonly stored: number | null;
  readonly signature: number | null;
  readonly ciphertext: number | null;
}

/** Times are medians in ms; `elsewhere` is another setup's, from an article of 2025. */
export interface AlgorithmRow {
  readonly algorithm: string;
  readonly where: string;
  readonly times: Times;
  readonly sizes: Sizes;
  readonly elsewhere: string | null;
}

interface Call {
  readonly run: () => Promise<unknown>;
  /** Undoes a run, outside of its time. */
  readonly undo?: (result: unknown) => Promise<void>;
}

type Calls = Partial<Record<(typeof OPERATIONS)[number], Call['run'] | Call>>;

/** How often a call is repeated: at least and, as long as `milliseconds` last, at most. */
export interface Budget {
  readonly milliseconds: number;
  readonly least: number;
  readonly most: number;
}

/** Slow calls are few: at most about 1.5 s for each operation. */
const USUAL: Budget = { milliseconds: 1_500, least: 3, most: 200 };

interface Bench {
  readonly engine: Engine;
  readonly budget: Budget;
}

async function median({ least, most, milliseconds }: Budget, call: Call): Promise<number> {
  const times: number[] = [];
  await call.undo?.(await call.run());
  const end = performance.now() + milliseconds;
  while (times.length < least || (times.length < most && performance.now() < end)) {
    const start = performance.now();
    const result = await call.run();
    times.push(performance.now() - start);
    await call.undo?.(result);
  }
  return times.sort((a, b) => a - b)[times.length >> 1] ?? Number.NaN;
}

async function timesOf({ budget }: Bench, calls: Calls): Promise<Times> {
  const times: Times = {};
  for (const name of OPERATIONS) {
    const call = calls[name];
    if (call === undefined) continue;
    times[name] = await median(budget, typeof call === 'function' ? { run: call } : call);
  }
  return times;
}

const MESSAGE = randomBytes(128);
const OTHER = randomBytes(128);
const NONE = new Uint8Array(0);
const SHORT = randomBytes(32);
const generateKeyPair = promisify(node.generateKeyPair);

const RSA = '45.2 / 0.8 / 23.1 / 25.3 / 0.9';
const ECDSA = '2.1 / - / - / 1.8 / 3.2';

function require(right: boolean, what: string): void {
  if (!right) throw new Error(`${what}: a wrong result, so it is not measured`);
}

async function rsaByNode(bench: Bench): Promise<AlgorithmRow> {
  const pair = () => generateKeyPair('rsa', { modulusLength: 2048 });
  const { publicKey, privateKey } = await pair();
  const oaep = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
  const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
  const sealed = node.publicEncrypt({ key: publicKey, ...oaep }, SHORT);
  const signature = node.sign('sha256', MESSAGE, { key: privateKey, ...pss });
  const decrypt = () => node.privateDecrypt({ key: privateKey, ...oaep }, sealed);
  const verify = (message: Uint8Array) =>
    node.verify('sha256', message, { key: publicKey, ...pss }, signature);
  require(decrypt().equals(SHORT) && verify(MESSAGE) && !verify(OTHER), 'RSA-2048');
  const times = await timesOf(bench, {
    keygen: pair,
    encrypt: async () => node.publicEncrypt({ key: publicKey, ...oaep }, SHORT),
    decrypt: async () => decrypt(),
    sign: async () => node.sign('sha256', MESSAGE, { key: privateKey, ...pss }),
    verify: async () => verify(MESSAGE),
  });
  const sizes = {
    publicKey: publicKey.export({ format: 'der', type: 'pkcs1' }).length,
    privateKey: privateKey.export({ format: 'der', type: 'pkcs1' }).length,
    stored: null,
    signature: signature.length,
    ciphertext: sealed.length,
  };
  return { algorithm: 'RSA-2048', where: 'software', times, sizes, elsewhere: RSA };
}

async function ecdsaByNode(bench: Bench): Promise<AlgorithmRow> {
  const pair = () => generateKeyPair('ec', { namedCurve: 'P-256' });
  const { publicKey, privateKey } = await pair();
  const signature = node.sign('sha256', MESSAGE, privateKey);
  const verify = (message: Uint8Array) => node.verify('sha256', message, publicKey, signature);
  require(verify(MESSAGE) && !verify(OTHER), 'ECDSA P-256');
  const times = await timesOf(bench, {
    keygen: pair,
    sign: async () => node.sign('sha256', MESSAGE, privateKey),
    verify: async () => verify(MESSAGE),
  });
  const sizes = { publicKey: 65, privateKey: 32, stored: null, signature: 72, ciphertext: null };
  return { algorithm: 'ECDSA P-256', where: 'software', times, sizes, elsewhere: ECDSA };
}

const NO_CLASSICAL: ClassicalKey = {
  publicKey: NONE,
  stored: null,
  decapsulate: () => Promise.reject(new Error('the suite has no classical half')),
  sign: () => Promise.reject(new Error('the suite has no classical half')),
  drop: () => Promise.resolve(),
};

interface Halves {
  readonly pq: SeedPair | null;
  readonly classical: ClassicalKey;
}

async function makeHalves(
  { engine }: Bench,
  suite: KemSuite | SignatureSuite,
  halves: ClassicalHalves,
): Promise<Halves> {
  const generate = (): Promise<SeedPair> | null => {
    if (suite.pq === null) return null;
    return suite.kind === 'kem'
      ? engine.mlKem.generate(suite.pq)
      : engine.signatures.generate(suite.pq);
  };
  const [pq, classical] = await Promise.all([
    generate(),
    suite.hsm === null ? NO_CLASSICAL : halves.make(suite, suite.hsm),
  ]);
  return { pq, classical };
}

/** Makes both halves, as a new version of a key does, and leaves nothing on the token. */
const keygenOf = (
  bench: Bench,
  suite: KemSuite | SignatureSuite,
  halves: ClassicalHalves,
): Call => ({
  run: () => makeHalves(bench, suite, halves),
  undo: (made) => (made as Halves).classical.drop(),
});

function whereOf({ engine }: Bench, suite: Suite, halves: ClassicalHalves): string {
  const software =
    suite.pq === null ? null : `software (${engine.implementationOf(suite.pq) ?? '-'})`;
  const parts = [suite.hsm !== null && halves.where === 'token' ? 'token' : null, software];
  return parts.filter((part) => part !== null).join(' and ');
}

/** Of all halves; null as soon as one has none. */
const sum = (lengths: readonly (number | null)[]): number | null =>
  lengths.reduce((all, length) => (all === null || length === null ? null : all + length), 0);

function keySizes({ parts }: Suite, { pq, classical }: Halves, publicKey: Uint8Array) {
  const stored = [pq?.seed.length ?? null, classical.stored].filter((length) => length !== null);
  return {
    publicKey: publicKey.length,
    privateKey: sum(parts.map(({ privateKeyLength }) => privateKeyLength)),
    stored: stored.length === 0 ? null : sum(stored),
  };
}

async function kemRow(
  bench: Bench,
  suite: KemSuite,
  halves: ClassicalHalves,
  elsewhere: string | null = null,
): Promise<AlgorithmRow> {
  const { engine } = bench;
  const { kem } = suite;
  const made = await makeHalves(bench, suite, halves);
  const { pq, classical } = made;
  const imported =
    pq === null || suite.pq === null ? null : engine.mlKem.importSeed(suite.pq, pq.seed);
  const publicKey = kem.joinPublicKey(engine, {
    pq: pq?.publicKey ?? NONE,
    classical: classical.publicKey,
  });
  const privateHalves = {
    pq: (ciphertext: Uint8Array) =>
      imported === null
        ? Promise.reject(new Error('no post-quantum half'))
        : imported.decapsulate(ciphertext),
    classical: classical.decapsulate,
  };
  const { sharedSecret, encapsulation } = await kem.encapsulate(engine, publicKey);
  const open = () => kem.decapsulate(encapsulation, publicKey, privateHalves);
  const opened = Buffer.from((await open()).reveal());
  require(opened.length >= 32 && opened.equals(sharedSecret.reveal()), suite.id);
  const times = await timesOf(bench, {
    keygen: keygenOf(bench, suite, halves),
    encrypt: () => kem.encapsulate(engine, publicKey),
    decrypt: open,
  });
  await classical.drop();
  const sizes = {
    ...keySizes(suite, made, publicKey),
    signature: null,
    ciphertext: encapsulation.length,
  };
  return { algorithm: suite.id, where: whereOf(bench, suite, halves), times, sizes, elsewhere };
}

async function signatureRow(
  bench: Bench,
  suite: SignatureSuite,
  halves: ClassicalHalves,
  elsewhere: string | null = null,
): Promise<AlgorithmRow> {
  const { engine } = bench;
  const { signer } = suite;
  const made = await makeHalves(bench, suite, halves);
  const { pq, classical } = made;
  const imported =
    pq === null || suite.pq === null ? null : engine.signatures.importSeed(suite.pq, pq.seed);
  const publicKey = signer.joinPublicKey({
    pq: pq?.publicKey ?? NONE,
    classical: classical.publicKey,
  });
  const none = () => Promise.reject(new Error('no post-quantum half'));
  const privateHalves = {
    pq: (message: Uint8Array, context: Uint8Array) => imported?.sign(message, context) ?? none(),
    mu: (mu: Uint8Array) => imported?.signMu(mu) ?? none(),
    classical: classical.sign,
  };
  const signature = await signer.sign({ message: MESSAGE }, NONE, privateHalves);
  const verify = (message: Uint8Array) =>
    signer.verify(engine, publicKey, { message }, NONE, signature);
  require((await verify(MESSAGE)) && !(await verify(OTHER)), suite.id);
  require(signature.length <= signer.lengths.signatureMax, suite.id);
  const times = await timesOf(bench, {
    keygen: keygenOf(bench, suite, halves),
    sign: () => signer.sign({ message: MESSAGE }, NONE, privateHalves),
    verify: () => verify(MESSAGE),
  });
  await classical.drop();
  const sizes = {
    ...keySizes(suite, made, publicKey),
    // The longest that ECDSA's DER gets; every other has one length.
    signature: suite.hsm?.kind === 'ec' ? signer.lengths.signatureMax : signature.length,
    ciphertext: null,
  };
  return { algorithm: suite.id, where: whereOf(bench, suite, halves), times, sizes, elsewhere };
}

/** One key decrypts and another signs, as everywhere; what public keys do, software does. */
async function rsaInToken(bench: Bench, token: ClassicalHalves): Promise<AlgorithmRow> {
  const { times, sizes } = await kemRow(bench, kem('RSA-OAEP-2048-SHA256'), token);
  const signing = await signatureRow(bench, signature('RSA-PSS-2048-SHA256'), token);
  return {
    algorithm: 'RSA-2048',
    where: 'token',
    times: { ...signing.times, ...times },
    sizes: { ...sizes, signature: signing.sizes.signature },
    elsewhere: RSA,
  };
}

function kem(id: string): KemSuite {
  const suite = findSuite(id);
  if (suite.kind !== 'kem') throw new Error(`${id} is no KEM`);
  return suite;
}

function signature(id: string): SignatureSuite {
  const suite = findSuite(id);
  if (suite.kind !== 'signature') throw new Error(`${id} is no signature`);
  return suite;
}

const HYBRID_KEMS = ['MLKEM768-P256', 'MLKEM768-X25519', 'MLKEM1024-P384', 'MLKEM1024-X25519'];
const COMPOSITES = [
  'MLDSA44-ECDSA-P256-SHA256',
  'MLDSA65-ECDSA-P256-SHA512',
  'MLDSA87-ECDSA-P384-SHA512',
  'MLDSA65-Ed25519-SHA512',
  'MLDSA65-RSA3072-PSS-SHA512',
];
const SINGLE_SIGNATURES: readonly (readonly [id: string, elsewhere: string | null])[] = [
  ['ML-DSA-87', '28.9 / - / - / 45.2 / 12.7'],
  ['Falcon-1024', '15.7 / - / - / 8.9 / 5.3'],
  ['SLH-DSA-SHA2-128s', null],
  ['SLH-DSA-SHA2-128f', null],
];

/** Every row of the table, measured on `hsm` with its root selected. */
export async function algorithmRows(
  hsm: Hsm,
  budget: Budget = USUAL,
): Promise<readonly AlgorithmRow[]> {
  const engine = createEngine();
  const bench = { engine, budget };
  const token = tokenHalves(hsm);
  const rows: AlgorithmRow[] = [];
  try {
    rows.push(await rsaByNode(bench), await rsaInToken(bench, token));
    rows.push(await ecdsaByNode(bench));
    const ecdsa = await signatureRow(bench, signature('ECDSA-P256-SHA256'), token, ECDSA);
    rows.push({ ...ecdsa, algorithm: 'ECDSA P-256' });
    const published = '12.3 / 15.6 / 5.8 / - / -';
    rows.push(await kemRow(bench, kem('ML-KEM-1024'), softwareHalves, published));
    for (const [id, elsewhere] of SINGLE_SIGNATURES) {
      rows.push(await signatureRow(bench, signature(id), softwareHalves, elsewhere));
    }
    for (const id of HYBRID_KEMS) {
      for (const halves of [softwareHalves, token]) rows.push(await kemRow(bench, kem(id), halves));
    }
    for (const id of COMPOSITES) rows.push(await signatureRow(bench, signature(id), token));
    return rows;
  } finally {
    await engine.close();
  }
}

/** Finding the primes of an RSA key can take a busy token many seconds. */
const DEADLINE_MS = 60_000;

/** Everything, against the token of a service's data folder. */
export async function measureAlgorithms(dataDir: string): Promise<readonly AlgorithmRow[]> {
  const token = await openToken(dataDir, DEADLINE_MS);
  try {
    return await algorithmRows(token);
  } finally {
    await token.close();
  }
}

export function renderAlgorithms(rows: readonly AlgorithmRow[]): string {
  const sizes = ['public', 'private', 'stored', 'signature', 'ciphertext'];
  const titles = [
    'algorithm',
    'where',
    ...OPERATIONS,
    ...sizes,
    'published elsewhere, another setup',
  ];
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const lines = rows.map(({ algorithm, where, times, sizes: bytes, elsewhere }) => {
    const { publicKey, privateKey, stored, signature: signed, ciphertext } = bytes;
    const lengths = [publicKey, privateKey, stored, signed, ciphertext].map((n) =>
      String(n ?? '-'),
    );
    const ms = OPERATIONS.map((name) => times[name]?.toFixed(2) ?? '-');
    return line([algorithm, where, ...ms, ...lengths, elsewhere ?? '-']);
  });
  return [line(titles), line(titles.map(() => '---')), ...lines].join('\n');
}
