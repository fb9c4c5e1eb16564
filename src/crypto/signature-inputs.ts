/** Input checks and the key test that every implementation of signatures shares. */
import { TwofoldError } from '../errors.ts';
import { DIGEST_LENGTHS, digestBytes } from './digests.ts';
import { MAX_SIGNATURE_CONTEXT, MU_LENGTH, SIGNATURE_LENGTHS } from './engine.ts';
import { wipe } from './secret.ts';
import type { MlDsaParameterSet, SeedPair, SignatureParameterSet, Signatures } from './engine.ts';
import type { SecretBytes } from './secret.ts';
import type { Hash, SignatureInput } from './suite.ts';

const NO_CONTEXT = new Uint8Array(0);
const TEST_MESSAGE = new TextEncoder().encode('pairwise consistency test');

/** @throws TwofoldError invalid_value */
export function checkSeed(set: SignatureParameterSet, seed: SecretBytes): void {
  if (seed.length !== SIGNATURE_LENGTHS[set].seed) {
    throw new TwofoldError('invalid_value', `The seed is not one of ${set}.`);
  }
}

function contextFits(set: SignatureParameterSet, { length }: Uint8Array): boolean {
  return length <= (SIGNATURE_LENGTHS[set].context ? MAX_SIGNATURE_CONTEXT : 0);
}

/** @throws TwofoldError invalid_value */
export function checkContext(set: SignatureParameterSet, context: Uint8Array): void {
  if (contextFits(set, context)) return;
  throw new TwofoldError(
    'invalid_value',
    SIGNATURE_LENGTHS[set].context
      ? `A signature context has ${MAX_SIGNATURE_CONTEXT} bytes at most.`
      : `${set} takes no signature context.`,
  );
}

/** @throws TwofoldError invalid_value */
export function checkMu(set: SignatureParameterSet, mu: Uint8Array): void {
  if (!SIGNATURE_LENGTHS[set].mu) {
    throw new TwofoldError('invalid_value', `${set} signs no external mu.`);
  }
  if (mu.length !== MU_LENGTH) {
    throw new TwofoldError('invalid_value', `An external mu has ${MU_LENGTH} bytes.`);
  }
}

/**
 * Of suites that put the context into the message themselves, or have none.
 * @throws TwofoldError invalid_value
 */
export function checkContextLength({ length }: Uint8Array, taken: boolean): void {
  if (length > 0 && !taken) {
    throw new TwofoldError('invalid_value', 'This suite takes no signatureContext.');
  }
  if (length > MAX_SIGNATURE_CONTEXT) {
    throw new TwofoldError('invalid_value', 'signatureContext is longer than 255 bytes.');
  }
}

/**
 * The digest of a message, or the one that was given.
 * @throws TwofoldError invalid_value for a digest of another algorithm or length, and for mu
 */
export function digestOf(hash: Hash, input: SignatureInput): Uint8Array {
  if ('message' in input) return digestBytes(hash, input.message);
  if ('mu' in input) throw new TwofoldError('invalid_value', 'This suite takes no mu.');
  const { algorithm, value } = input.digest;
  if (algorithm !== hash || value.length !== DIGEST_LENGTHS[hash]) {
    throw new TwofoldError(
      'invalid_value',
      `This suite takes a digest of ${hash}, ${String(DIGEST_LENGTHS[hash])} bytes.`,
    );
  }
  return value;
}

/** What any verification needs before it can be true. */
export function verifiable(
  set: SignatureParameterSet,
  publicKey: Uint8Array,
  signature: Uint8Array,
  context: Uint8Array,
): boolean {
  return lengthsFit(set, publicKey, signature) && contextFits(set, context);
}

export function muVerifiable(
  set: MlDsaParameterSet,
  publicKey: Uint8Array,
  mu: Uint8Array,
  signature: Uint8Array,
): boolean {
  return lengthsFit(set, publicKey, signature) && mu.length === MU_LENGTH;
}

function lengthsFit(set: SignatureParameterSet, publicKey: Uint8Array, signature: Uint8Array) {
  const lengths = SIGNATURE_LENGTHS[set];
  return publicKey.length === lengths.publicKey && signature.length === lengths.signature;
}

/**
 * The pairwise consistency test of FIPS 140-3 IG 10.3.A, from what is kept: the seed is imported
 * anew and its signature verifies. Each scheme's signature covers the whole public key, so this
 * fails too when the seed gives another one. Wipes the seed of a pair that fails.
 *
 * @throws TwofoldError internal
 */
export async function consistentPair(
  signatures: Pick<Signatures, 'importSeed' | 'verify'>,
  set: SignatureParameterSet,
  pair: SeedPair,
): Promise<SeedPair> {
  try {
    const key = signatures.importSeed(set, pair.seed);
    try {
      const signature = await key.sign(TEST_MESSAGE, NO_CONTEXT);
      const { publicKey } = pair;
      if (await signatures.verify(set, publicKey, TEST_MESSAGE, signature, NO_CONTEXT)) return pair;
    } finally {
      key.release();
    }
    throw new TwofoldError('internal', `A new pair of ${set} is not consistent.`);
  } catch (error) {
    wipe(pair.seed);
    throw error;
  }
}
