/**
 * What the known answers of a start take, what the engine adds to node:crypto, call by call in alternating slices of one run, and what the
 * combiner and key schedule of each KEM suite cost.
 *
 * The service's engine checks inputs, self-tests and lengths and wraps secrets; a ratio is the median
 * over slices of its time to that of the bare calls beside it. Beside a key generation stand the bare
 * calls that make a pair and try it (FIPS 140-3 IG 10.3.A), since no pair is given out untried.
 */
import { createPrivateKey, createPublicKey, decapsulate, encapsulate } from 'node:crypto';
import { generateKeyPair, randomBytes, sign, verify } from 'node:crypto';
import { promisify } from 'node:util';
import type { AsymmetricKeyType, KeyObject } from 'node:crypto';

import { createEngine } from '../src/crypto/combined-engine.ts';
import { SIGNATURE_LENGTHS } from '../src/crypto/engine.ts';
import { runKnownAnswers } from '../src/crypto/known-answers.ts';
import { SecretBytes } from '../src/crypto/secret.ts';
import { SUITES } from '../src/crypto/suites.ts';
import { CLASSICAL, EXCHANGES } from './classical-calls.ts';
import { measureHost } from './host-part.ts';
import { beside, median } from './slices.ts';
import type {
  MlDsaParameterSet,
  MlKemParameterSet,
  SlhDsaParameterSet,
} from '../src/crypto/engine.ts';

import type { HostPart } from './host-part.ts';
import type { Row } from './slices.ts';

const generatePair = promisify(generateKeyPair);

const MESSAGE = randomBytes(128);
const NOTHING = new Uint8Array(0);
const engine = createEngine();

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
      `${set} generate and try`,
      async () => {
        const pair = await generatePair(typeOf(set) as 'ml-kem-768');
        const kept = pair.privateKey.export({ format: 'raw-seed' });
        const shown = pair.publicKey.export({ format: 'raw-public' });
        const tried = encapsulate(publicKeyOf(set, shown));
        const again = { key: kept, format: 'raw-seed', asymmetricKeyType: typeOf(set) } as const;
        if (!decapsulate(createPrivateKey(again), tried.ciphertext).equals(tried.sharedKey)) {
          throw new Error('not a pair');
        }
      },
      async () => (await engine.mlKem.generate(set)).seed.wipe(),
    ),
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

/** As the service does it: in libuv's threads. */
function inThread<T>(act: (done: (error: Error | null, value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    act((error, value) => {
      if (error === null) resolve(value);
      else reject(error);
    });
  });
}

const bareSign = (key: KeyObject) =>
  inThread<Buffer>((done) => {
    sign(null, MESSAGE, key, done);
  });
const bareVerify = (key: KeyObject, signature: Uint8Array) =>
  inThread<boolean>((done) => {
    verify(null, MESSAGE, key, signature, done);
  });

/** The form in which node gives a private key of the set, and takes it again. */
const formOf = (set: string) => (set.startsWith('SLH') ? 'raw-private' : 'raw-seed');

async function generateBare(set: MlDsaParameterSet | SlhDsaParameterSet): Promise<void> {
  const pair = await generatePair(typeOf(set) as 'ml-dsa-65');
  const format = formOf(set) as 'raw-seed';
  const key = pair.privateKey.export({ format });
  const shown = pair.publicKey.export({ format: 'raw-public' });
  const again = createPrivateKey({ key, format, asymmetricKeyType: typeOf(set) });
  if (!(await bareVerify(publicKeyOf(set, shown), await bareSign(again)))) {
    throw new Error('not a pair');
  }
}

/** @param slices fewer for sets whose one signature takes longer than a slice */
async function signatureRows(
  set: MlDsaParameterSet | SlhDsaParameterSet,
  slices?: number,
): Promise<readonly Row[]> {
  const { privateKey, publicKey: shown } = await generatePair(typeOf(set) as 'ml-dsa-65');
  const publicKey = shown.export({ format: 'raw-public' });
  const raw = privateKey.export({ format: formOf(set) as 'raw-seed' });
  const seed = SecretBytes.copyOf(raw.subarray(0, SIGNATURE_LENGTHS[set].seed));
  const imported = engine.signatures.importSeed(set, seed);
  const signature = await imported.sign(MESSAGE, NOTHING);
  if (signature.length !== SIGNATURE_LENGTHS[set].signature) throw new Error('not a signature');
  return [
    await beside(
      `${set} generate and try`,
      () => generateBare(set),
      async () => (await engine.signatures.generate(set)).seed.wipe(),
      slices,
    ),
    await beside(
      `${set} sign`,
      () => bareSign(privateKey),
      () => imported.sign(MESSAGE, NOTHING),
      slices,
    ),
    await beside(
      `${set} verify`,
      () => bareVerify(publicKeyOf(set, publicKey), signature),
      () => engine.signatures.verify(set, publicKey, MESSAGE, signature, NOTHING),
      slices,
    ),
  ];
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
  readonly host: readonly HostPart[];
}

/** Sets of OpenSSL whose signatures fit a benchmark; the others do the same, for longer. */
const SLH_DSA = ['SLH-DSA-SHA2-128f', 'SLH-DSA-SHAKE-128f', 'SLH-DSA-SHA2-256f'] as const;
const FEW = 21;

export async function measureEngines(): Promise<EngineReport> {
  // The engine's threads keep no process alive, and here nothing else does.
  const alive = setInterval(() => undefined, 60_000);
  try {
    return await measure();
  } finally {
    clearInterval(alive);
    await engine.close();
  }
}

async function measure(): Promise<EngineReport> {
  // Before anything else: what comes first in a start must be first here.
  const knownAnswers = await knownAnswerTimes();
  const rows: Row[] = [];
  for (const set of ['ML-KEM-512', 'ML-KEM-768', 'ML-KEM-1024'] as const) {
    rows.push(...(await kemRows(set)));
  }
  for (const set of ['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'] as const) {
    rows.push(...(await signatureRows(set)));
  }
  for (const set of SLH_DSA) rows.push(...(await signatureRows(set, FEW)));
  for (const { name, bare, ours } of [...CLASSICAL, ...EXCHANGES]) {
    rows.push(await beside(name, bare, ours));
  }
  const host: HostPart[] = [];
  for (const suite of Object.values(SUITES).filter((row) => row.kind === 'kem')) {
    host.push(await measureHost(engine, suite));
  }
  return { knownAnswers, engine: rows, host };
}

const line = (...[first = '', ...cells]: readonly string[]): string =>
  first.padEnd(36) + cells.map((cell) => cell.padStart(14)).join('');

export function renderEngines({ knownAnswers, engine: rows, host }: EngineReport): string {
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
    line('of a decapsulation, µs', 'derivation', 'all but halves'),
    ...host.map(({ suite, derivation, whole }) =>
      line(suite, derivation.toFixed(1), whole.toFixed(1)),
    ),
  ].join('\n');
}
