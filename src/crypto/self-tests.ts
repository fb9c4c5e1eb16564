/**
 * Self-tests of single parameter sets, in the manner of FIPS 140-3's conditional algorithm
 * self-tests: what an implementation must pass before its first result leaves.
 */
import { createHash } from 'node:crypto';

import { TwofoldError } from '../errors.ts';
import { equalBytes, utf8 } from './bytes.ts';
import { MU_LENGTH, SIGNATURE_LENGTHS } from './engine.ts';
import { shake256 } from './hpke.ts';
import { ML_KEM_ANSWERS } from './known-answers-pq.ts';
import { SIGNATURE_ANSWERS } from './known-answers-signatures.ts';
import { SecretBytes, wipe } from './secret.ts';
import type { MlKemAnswer } from './known-answers-pq.ts';
import type { SignatureAnswer } from './known-answers-signatures.ts';
import type {
  MlDsaParameterSet,
  MlKem,
  MlKemParameterSet,
  SignatureParameterSet,
  Signatures,
  SigningKey,
} from './engine.ts';

const NO_CONTEXT = new Uint8Array(0);
const MESSAGE = utf8('self-test');
const OTHER_MESSAGE = utf8('self-tesu');
const CONTEXT = utf8('context');

export function sha3(bytes: Uint8Array): Uint8Array {
  return createHash('sha3-256').update(bytes).digest();
}

/** Key generation, decapsulation, and an encapsulation that comes back. */
export async function testMlKem(mlKem: MlKem, answer: MlKemAnswer): Promise<boolean> {
  const seed = SecretBytes.copyOf(answer.seed);
  const publicKey = mlKem.publicKey(answer.set, seed);
  const key = mlKem.importSeed(answer.set, seed);
  try {
    const known = await key.decapsulate(answer.ciphertext);
    const fresh = await mlKem.encapsulate(answer.set, publicKey);
    const returned = await key.decapsulate(fresh.ciphertext);
    return (
      equalBytes(sha3(publicKey), answer.publicKeySha3) &&
      equalBytes(known.reveal(), answer.sharedSecret) &&
      equalBytes(returned.reveal(), fresh.sharedSecret.reveal())
    );
  } finally {
    key.release();
    wipe(seed);
  }
}

/**
 * Key generation, the known signature, and a fresh one with a context, which must verify with
 * nothing else: some builds of Node accept the option and ignore it, which would make every
 * composite worthless.
 *
 * @param witness another implementation, which has to verify the fresh signature too; for sets
 *   without a known signature
 */
export async function testSignatures(
  signatures: Signatures,
  answer: SignatureAnswer,
  witness?: Signatures,
): Promise<boolean> {
  const { set, known } = answer;
  const seed = SecretBytes.copyOf(answer.seed);
  const key = signatures.importSeed(set, seed);
  try {
    const publicKey = await signatures.publicKey(set, seed);
    if (!equalBytes(sha3(publicKey), answer.publicKeySha3)) return false;
    if (known !== null) {
      const { message, context, signature } = known;
      if (!(await signatures.verify(set, publicKey, message, signature, context))) return false;
    }
    return await testFresh(signatures, key, publicKey, witness);
  } finally {
    key.release();
    wipe(seed);
  }
}

async function testFresh(
  signatures: Signatures,
  key: SigningKey,
  publicKey: Uint8Array,
  witness: Signatures | undefined,
): Promise<boolean> {
  const set = key.parameterSet;
  const context = SIGNATURE_LENGTHS[set].context ? CONTEXT : NO_CONTEXT;
  const signature = await key.sign(MESSAGE, context);
  const verifies = (by: Signatures, message: Uint8Array, given: Uint8Array) =>
    by.verify(set, publicKey, message, signature, given);
  return (
    (await verifies(signatures, MESSAGE, context)) &&
    !(await verifies(signatures, OTHER_MESSAGE, context)) &&
    (context === NO_CONTEXT || !(await verifies(signatures, MESSAGE, NO_CONTEXT))) &&
    (witness === undefined || (await verifies(witness, MESSAGE, context)))
  );
}

/**
 * External mu: the known signature of a message verifies over its mu, and a fresh one over that mu
 * verifies as one of the message (FIPS 204 algorithm 7 line 6, algorithm 2 line 10).
 */
export async function testMu(signatures: Signatures, set: MlDsaParameterSet): Promise<boolean> {
  const { seed: published, known } = signatureAnswer(set);
  if (known === null) return false;
  const { message, context, signature } = known;
  const seed = SecretBytes.copyOf(published);
  const key = signatures.importSeed(set, seed);
  try {
    const publicKey = await signatures.publicKey(set, seed);
    const mu = muOf(publicKey, message, context);
    const fresh = await key.signMu(mu);
    return (
      (await signatures.verifyMu(set, publicKey, mu, signature)) &&
      (await signatures.verify(set, publicKey, message, fresh, context)) &&
      !(await signatures.verifyMu(set, publicKey, new Uint8Array(MU_LENGTH), signature))
    );
  } finally {
    key.release();
    wipe(seed);
  }
}

/** mu = SHAKE256(SHAKE256(pk, 64) ‖ 0 ‖ length of ctx ‖ ctx ‖ M, 64), of the pure form. */
export function muOf(publicKey: Uint8Array, message: Uint8Array, context: Uint8Array): Uint8Array {
  const tr = shake256.xof([publicKey], MU_LENGTH);
  return shake256.xof([tr, Uint8Array.of(0, context.length), context, message], MU_LENGTH);
}

/** @throws TypeError for a set without known answers: there is none */
export function signatureAnswer(set: SignatureParameterSet): SignatureAnswer {
  const answer = SIGNATURE_ANSWERS.get(set);
  if (answer === undefined) throw new TypeError(`${set} has no known answer`);
  return answer;
}

/** @throws TypeError as `signatureAnswer` */
export function mlKemAnswer(set: MlKemParameterSet): MlKemAnswer {
  const answer = ML_KEM_ANSWERS.find((row) => row.set === set);
  if (answer === undefined) throw new TypeError(`${set} has no known answer`);
  return answer;
}

/** Why a test did not come to an end, which says nothing about the algorithm. */
const INCONCLUSIVE = ['rate_limited', 'shutting_down'] as const;

/** Runs each named test once, before the first use of what it is about, and remembers its outcome. */
export class SelfTests {
  readonly #outcomes = new Map<string, 'passed' | TwofoldError | Promise<void>>();

  /** Without waiting: true once the test has passed. */
  passed(name: string): boolean {
    return this.#outcomes.get(name) === 'passed';
  }

  failed(name: string): boolean {
    return this.#outcomes.get(name) instanceof TwofoldError;
  }

  /** @throws TwofoldError suite_unavailable_here when the test failed, now or before */
  async require(name: string, test: () => Promise<boolean>): Promise<void> {
    const outcome = this.#outcomes.get(name);
    if (outcome === 'passed') return;
    if (outcome instanceof TwofoldError) throw outcome;
    const running = outcome ?? this.#run(name, test);
    this.#outcomes.set(name, running);
    await running;
  }

  async #run(name: string, test: () => Promise<boolean>): Promise<void> {
    let cause: unknown;
    try {
      if (await test()) {
        this.#outcomes.set(name, 'passed');
        return;
      }
    } catch (error) {
      cause = error;
      if (INCONCLUSIVE.some((code) => TwofoldError.is(error, code))) {
        this.#outcomes.delete(name);
        throw error;
      }
    }
    const detail = `A self-test failed: ${name}.`;
    const failure = new TwofoldError('suite_unavailable_here', detail, { cause });
    this.#outcomes.set(name, failure);
    throw failure;
  }
}
