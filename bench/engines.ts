/**
 * What the known answers of a start take, what the engine adds to node:crypto, call by call in alternating slices of one run, and what the
 * combiner and key schedule of each KEM suite cost.
 *
 * The service's engine checks inputs, self-tests and lengths and wraps secrets; a ratio is the median
 * over slices of its time to that of the bare calls beside it.
 */
import {
  createPrivateKey,
  createPublicKey,
  decapsulate,
  encapsulate,
  generateKeyPairSync,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import type { AsymmetricKeyType, KeyObject } from 'node:crypto';

import { createEngine } from '../src/crypto/combined-engine.ts';
import { SIGNATURE_LENGTHS } from '../src/crypto/engine.ts';
import { keySchedule } from '../src/crypto/hpke.ts';
import { runKnownAnswers } from '../src/crypto/known-answers.ts';
import { SecretBytes } from '../src/crypto/secret.ts';
import { SUITES } from '../src/crypto/suites.ts';
import type { MlDsaParameterSet, MlKemParameterSet } from '../src/crypto/engine.ts';
import type { KemSuite } from '../src/crypto/suite.ts';

const SLICES = 41;
const SLICE_MS = 12;
const MESSAGE = randomBytes(128);
const NOTHING = new Uint8Array(0);
const engine = createEngine();

type Call = () => unknown;

interface Row {
  readonly name: string;
  /** Microseconds a call. */
  readonly bare: number;
  readonly ours: number;
  /** Median over slices of ours / bare. */
  readonly ratio: number;
}

async function slice(call: Call): Promise<number> {
  const start = performance.now();
  let calls = 0;
  do {
    await call();
    calls += 1;
  } while (performance.now() - start < SLICE_MS);
  return ((performance.now() - start) * 1000) / calls;
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

async function beside(name: string, bare: Call, ours: Call): Promise<Row> {
  const pairs: { readonly bare: number; readonly ours: number }[] = [];
  for (let n = 0; n < SLICES; n += 1) {
    // Each goes first every other time, so that neither has the warmer cache.
    const [first, second] = n % 2 === 0 ? [bare, ours] : [ours, bare];
    const [one, other] = [await slice(first), await slice(second)];
    pairs.push(n % 2 === 0 ? { bare: one, ours: other } : { bare: other, ours: one });
  }
  return {
    name,
    bare: median(pairs.map((pair) => pair.bare)),
    ours: median(pairs.map((pair) => pair.ours)),
    ratio: median(pairs.map((pair) => pair.ours / pair.bare)),
  };
}

const typeOf = (set: string): AsymmetricKeyType => set.toLowerCase() as AsymmetricKeyType;

function publicKeyOf(set: string, publicKey: Uint8Array): KeyObject {
  const key = Buffer.from(publicKey);
  return createPublicKey({ key, format: 'raw-public', asymmetricKeyType: typeOf(set) });
}

function privateKeyOf(set: string, seed: SecretBytes): KeyObject {
  const key = Buffer.from(seed.reveal());
  return createPrivateKey({ key, format: 'raw-seed', asymmetricKeyType: typeOf(set) });
}

async function kemRows(set: MlKemParameterSet): Promise<readonly Row[]> {
  const { seed, publicKey } = await engine.mlKem.generate(set);
  const imported = engine.mlKem.importSeed(set, seed);
  const own = privateKeyOf(set, seed);
  const { ciphertext } = await engine.mlKem.encapsulate(set, publicKey);
  return [
    await beside(
      `${set} encapsulate`,
      () => encapsulate(publicKeyOf(set, publicKey)),
      () => engine.mlKem.encapsulate(set, publicKey),
    ),
    await beside(
      `${set} decapsulate`,
      () => decapsulate(own, ciphertext),
      () => imported.decapsulate(ciphertext),
    ),
  ];
}

async function signatureRows(set: MlDsaParameterSet): Promise<readonly Row[]> {
  const { seed, publicKey } = await engine.signatures.generate(set);
  const imported = engine.signatures.importSeed(set, seed);
  const own = privateKeyOf(set, seed);
  const signature = await imported.sign(MESSAGE, NOTHING);
  if (signature.length !== SIGNATURE_LENGTHS[set].signature) throw new Error('not a signature');
  /** As the service does it: in libuv's threads. */
  const inThread = (act: (done: (error: Error | null) => void) => void) =>
    new Promise<void>((resolve, reject) => {
      act((error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
  return [
    await beside(
      `${set} sign`,
      () => inThread((done) => sign(null, MESSAGE, own, (error) => done(error))),
      () => imported.sign(MESSAGE, NOTHING),
    ),
    await beside(
      `${set} verify`,
      () =>
        inThread((done) =>
          verify(null, MESSAGE, publicKeyOf(set, publicKey), signature, (error) => done(error)),
        ),
      () => engine.signatures.verify(set, publicKey, MESSAGE, signature, NOTHING),
    ),
  ];
}

/** A decapsulation whose halves are there already: splitting, combiner or derivation, key schedule. */
async function hostPart(suite: KemSuite): Promise<number> {
  const { seed, publicKey: pq } =
    suite.pq === null ? { seed: null, publicKey: NOTHING } : await engine.mlKem.generate(suite.pq);
  seed?.wipe();
  const classical = classicalKey(suite);
  const publicKey = suite.kem.joinPublicKey(engine, { pq, classical });
  const { encapsulation } = await suite.kem.encapsulate(engine, publicKey);
  const [pqSecret, other] = [randomBytes(32), randomBytes(secretLength(suite))];
  const halves = {
    pq: () => Promise.resolve(SecretBytes.copyOf(pqSecret)),
    classical: () => Promise.resolve(SecretBytes.copyOf(other)),
  };
  const info = randomBytes(70);
  const psk = { secret: SecretBytes.own(randomBytes(32)), id: randomBytes(20) };
  const call = async () => {
    const secret = await suite.kem.decapsulate(encapsulation, publicKey, halves);
    const schedule = keySchedule(suite.hpke, secret, info, psk);
    // What sealing and opening read; two stages derive it only now.
    if (schedule.key.length === 0 || schedule.baseNonce.length === 0) throw new Error('no key');
    schedule.wipe();
    secret.wipe();
  };
  const times: number[] = [];
  for (let n = 0; n < SLICES; n += 1) times.push(await slice(call));
  return median(times);
}

const secretLength = ({ hsm }: KemSuite): number =>
  hsm?.kind === 'ec' && hsm.curve === 'P-384' ? 48 : 32;

/** A public key of the classical half, made in software. */
function classicalKey({ hsm }: KemSuite): Uint8Array {
  if (hsm === null) return NOTHING;
  if (hsm.kind === 'x25519') {
    return generateKeyPairSync('x25519').publicKey.export({ format: 'raw-public' });
  }
  if (hsm.kind === 'ec') {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: hsm.curve });
    return publicKey.export({ format: 'raw-public', type: 'uncompressed' });
  }
  if (hsm.kind !== 'rsa') throw new Error('not a KEM half');
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: hsm.bits });
  return Uint8Array.from(publicKey.export({ format: 'der', type: 'pkcs1' }));
}

/** Milliseconds of all known answers of a start; wanted is less than `KNOWN_ANSWERS_MS`. */
interface KnownAnswerTimes {
  /** The first of this process, with nothing compiled yet, as a start has it. */
  readonly first: number;
  readonly again: number;
}

const KNOWN_ANSWERS_MS = 300;

async function knownAnswerTime(): Promise<number> {
  const begun = performance.now();
  const failed = (await runKnownAnswers(engine)).filter(({ passed }) => !passed);
  if (failed.length > 0) throw new Error('a known answer failed');
  return performance.now() - begun;
}

async function knownAnswerTimes(): Promise<KnownAnswerTimes> {
  const first = await knownAnswerTime();
  const again: number[] = [];
  for (let n = 0; n < 11; n += 1) again.push(await knownAnswerTime());
  return { first, again: median(again) };
}

export interface EngineReport {
  readonly knownAnswers: KnownAnswerTimes;
  readonly engine: readonly Row[];
  readonly combinerAndSchedule: readonly {
    readonly suite: string;
    readonly microseconds: number;
  }[];
}

export async function measureEngines(): Promise<EngineReport> {
  // Before anything else: what comes first in a start must be first here.
  const knownAnswers = await knownAnswerTimes();
  const rows: Row[] = [];
  for (const set of ['ML-KEM-512', 'ML-KEM-768', 'ML-KEM-1024'] as const) {
    rows.push(...(await kemRows(set)));
  }
  for (const set of ['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'] as const) {
    rows.push(...(await signatureRows(set)));
  }
  const hosts: { readonly suite: string; readonly microseconds: number }[] = [];
  for (const suite of Object.values(SUITES).filter((row) => row.kind === 'kem')) {
    hosts.push({ suite: suite.id, microseconds: await hostPart(suite) });
  }
  await engine.close();
  return { knownAnswers, engine: rows, combinerAndSchedule: hosts };
}

const line = (...[first = '', ...cells]: readonly string[]): string =>
  first.padEnd(28) + cells.map((cell) => cell.padStart(12)).join('');

export function renderEngines(report: EngineReport): string {
  const { knownAnswers, engine: rows, combinerAndSchedule } = report;
  const share = (ms: number) => (ms / KNOWN_ANSWERS_MS).toFixed(2);
  return [
    line('known answers', 'ms', `of ${KNOWN_ANSWERS_MS} ms`),
    line('first in a process', knownAnswers.first.toFixed(1), share(knownAnswers.first)),
    line('again', knownAnswers.again.toFixed(1), share(knownAnswers.again)),
    '',
    line('call', 'node, µs', 'engine, µs', 'ratio'),
    ...rows.map(({ name, bare, ours, ratio }) =>
      line(name, bare.toFixed(1), ours.toFixed(1), ratio.toFixed(2)),
    ),
    '',
    line('combiner and key schedule', 'µs'),
    ...combinerAndSchedule.map(({ suite, microseconds }) => line(suite, microseconds.toFixed(1))),
  ].join('\n');
}
