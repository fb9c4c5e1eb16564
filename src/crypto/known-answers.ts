/**
 * Start-up self-tests: one known answer per algorithm (in the manner of FIPS 140-3's conditional
 * algorithm self-tests). The constants stand in `known-answers-classical.ts`, which the probe of an
 * HSM uses too, `known-answers-pq.ts` and `known-answers-signatures.ts`. SLH-DSA and Falcon are
 * tested before their first use (`combined-engine.ts`).
 */
import { createHmac, createPrivateKey, diffieHellman } from 'node:crypto';

import { aes256Gcm } from './aead.ts';
import { concatBytes, equalBytes, utf8 } from './bytes.ts';
import { ecdsaScheme } from './classical-signature.ts';
import { importPublicKey } from './curve.ts';
import { encodeEcdsaSignature } from './ecdsa.ts';
import { hkdf } from './hkdf.ts';
import { shake256 } from './hpke.ts';
import {
  AES_256_GCM_ANSWER,
  ECDH_ANSWERS,
  ECDSA_ANSWERS,
  hexBytes,
  HMAC_SHA256_ANSWER,
} from './known-answers-classical.ts';
import {
  COMBINER_ANSWERS,
  COMPOSITE_ANSWERS,
  COMPOSITE_CONTEXT,
  COMPOSITE_MESSAGE,
  ML_KEM_ANSWERS,
} from './known-answers-pq.ts';
import { HKDF_ANSWERS, VERIFICATION_ANSWERS } from './known-answers-verification.ts';
import { SecretBytes } from './secret.ts';
import { sha3, signatureAnswer, testMlKem, testSignatures } from './self-tests.ts';
import { findSuite } from './suites.ts';
import type { Engine, MlDsaParameterSet } from './engine.ts';
import type { EcdhAnswer, EcdsaAnswer } from './known-answers-classical.ts';
import type { HkdfAnswer, VerificationAnswer } from './known-answers-verification.ts';
import type { CombinerAnswer, CompositeAnswer } from './known-answers-pq.ts';
import type { KemSuite, SignatureSuite } from './suite.ts';

export interface KnownAnswerResult {
  /** The standard's name, e.g. `ML-KEM-768`, `ECDH-P-256`, or a suite id. */
  readonly algorithm: string;
  readonly passed: boolean;
  /** What threw, for the log. */
  readonly cause?: unknown;
}

interface KnownAnswerTest {
  readonly algorithm: string;
  readonly run: (engine: Engine) => boolean | Promise<boolean>;
}

const NO_CONTEXT = new Uint8Array(0);

function testHash(): boolean {
  const expected = '3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532';
  return equalBytes(sha3(utf8('abc')), hexBytes(expected));
}

function testXof(): boolean {
  const expected = '46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762f';
  return equalBytes(shake256.xof([NO_CONTEXT], 32), hexBytes(expected));
}

function testHmac(): boolean {
  const { key, message, mac } = HMAC_SHA256_ANSWER;
  return equalBytes(createHmac('sha256', key).update(message).digest(), mac);
}

function testAead(): boolean {
  const { key, nonce, associatedData, plaintext, ciphertext } = AES_256_GCM_ANSWER;
  const secretKey = SecretBytes.copyOf(key);
  const input = SecretBytes.copyOf(plaintext);
  const sealed = aes256Gcm.seal(secretKey, nonce, associatedData, input);
  const opened = aes256Gcm.open(secretKey, nonce, associatedData, ciphertext);
  return equalBytes(sealed, ciphertext) && equalBytes(opened.reveal(), plaintext);
}

function testEcdh({ curve, privateKey, peerPublicKey, secret }: EcdhAnswer): boolean {
  const key = Buffer.from(privateKey);
  const imported =
    curve === 'X25519'
      ? createPrivateKey({ key, format: 'raw-private', asymmetricKeyType: 'x25519' })
      : createPrivateKey({
          key,
          format: 'raw-private',
          asymmetricKeyType: 'ec',
          namedCurve: curve,
        });
  const publicKey = importPublicKey(curve, peerPublicKey);
  return equalBytes(diffieHellman({ privateKey: imported, publicKey }), secret);
}

async function testEcdsa({ curve, hash, publicKey, message, signature }: EcdsaAnswer) {
  const other = concatBytes(message, Uint8Array.of(0));
  const scheme = ecdsaScheme(curve, hash);
  const der = encodeEcdsaSignature(curve, signature);
  return (
    (await scheme.verify(publicKey, message, der)) && !(await scheme.verify(publicKey, other, der))
  );
}

async function testVerification({ scheme, publicKey, message, signature }: VerificationAnswer) {
  const other = concatBytes(message, Uint8Array.of(0));
  return (
    (await scheme.verify(publicKey, message, signature)) &&
    !(await scheme.verify(publicKey, other, signature))
  );
}

function testHkdf({ hash, keyMaterial, salt, info, output }: HkdfAnswer): boolean {
  const { extract, expand } = hkdf(hash);
  return equalBytes(expand(extract(salt, [keyMaterial]), [info], output.length), output);
}

/** The ML-KEM ciphertext is not an input of the combiner, so zeros of its length do. */
async function testCombiner(answer: CombinerAnswer): Promise<boolean> {
  const { kem } = findSuite(answer.suite) as KemSuite;
  const { ephemeralPublicKey, classicalPublicKey } = answer;
  const padded = (length: number, end: Uint8Array) =>
    concatBytes(new Uint8Array(length - end.length), end);
  const secret = await kem.decapsulate(
    padded(kem.lengths.encapsulation, ephemeralPublicKey),
    padded(kem.lengths.publicKey, classicalPublicKey),
    {
      pq: () => Promise.resolve(SecretBytes.copyOf(answer.pqSecret)),
      classical: () => Promise.resolve(SecretBytes.copyOf(answer.classicalSecret)),
    },
  );
  return equalBytes(secret.reveal(), answer.sharedSecret);
}

async function testComposite(engine: Engine, answer: CompositeAnswer): Promise<boolean> {
  const { signer } = findSuite(answer.suite) as SignatureSuite;
  const pq = await engine.signatures.publicKey(answer.set, SecretBytes.copyOf(answer.seed));
  const publicKey = signer.joinPublicKey({ pq, classical: answer.classicalPublicKey });
  const input = { message: COMPOSITE_MESSAGE };
  const verify = (context: Uint8Array) =>
    signer.verify(engine, publicKey, input, context, answer.signature);
  return (await verify(COMPOSITE_CONTEXT)) && !(await verify(NO_CONTEXT));
}

/** The slow sets, and those that may need a thread, are tested before their first use. */
const AT_START: readonly MlDsaParameterSet[] = ['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'];

const TESTS: readonly KnownAnswerTest[] = [
  { algorithm: 'SHA3-256', run: testHash },
  { algorithm: 'SHAKE256', run: testXof },
  { algorithm: 'HMAC-SHA-256', run: testHmac },
  { algorithm: 'AES-256-GCM', run: testAead },
  ...ECDH_ANSWERS.map((answer) => ({
    algorithm: answer.curve === 'X25519' ? answer.curve : `ECDH-${answer.curve}`,
    run: () => testEcdh(answer),
  })),
  ...ECDSA_ANSWERS.map((answer) => ({
    algorithm: `ECDSA-${answer.curve}`,
    run: () => testEcdsa(answer),
  })),
  ...VERIFICATION_ANSWERS.map((answer) => ({
    algorithm: answer.algorithm,
    run: () => testVerification(answer),
  })),
  ...HKDF_ANSWERS.map((answer) => ({
    algorithm: `HKDF-${answer.hash}`,
    run: () => Promise.resolve(testHkdf(answer)),
  })),
  ...ML_KEM_ANSWERS.map((answer) => ({
    algorithm: answer.set,
    run: ({ mlKem }: Engine) => testMlKem(mlKem, answer),
  })),
  ...AT_START.map((set) => ({
    algorithm: set,
    run: ({ signatures }: Engine) => testSignatures(signatures, signatureAnswer(set)),
  })),
  ...COMBINER_ANSWERS.map((answer) => ({
    algorithm: answer.suite,
    run: () => testCombiner(answer),
  })),
  ...COMPOSITE_ANSWERS.map((answer) => ({
    algorithm: answer.suite,
    run: (engine: Engine) => testComposite(engine, answer),
  })),
];

async function runTest(test: KnownAnswerTest, engine: Engine): Promise<KnownAnswerResult> {
  try {
    return { algorithm: test.algorithm, passed: await test.run(engine) };
  } catch (cause) {
    return { algorithm: test.algorithm, passed: false, cause };
  }
}

/** Runs every known answer; a process with one that did not pass must not serve. */
export async function runKnownAnswers(engine: Engine): Promise<readonly KnownAnswerResult[]> {
  return Promise.all(TESTS.map((test) => runTest(test, engine)));
}
