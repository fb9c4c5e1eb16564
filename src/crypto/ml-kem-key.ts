/**
 * Input checks that FIPS 203 asks of whoever calls ML-KEM, and the test of a new pair; the same for
 * both engines.
 */
import { TwofoldError } from '../errors.ts';
import { equalBytes } from './bytes.ts';
import { ML_KEM_LENGTHS } from './engine.ts';
import { wipe } from './secret.ts';
import type { MlKem, MlKemParameterSet, SeedPair } from './engine.ts';

const Q = 3329;
const RHO_LENGTH = 32;

/** ByteEncode12(ByteDecode12(t)) = t, that is: no 12-bit coefficient is q or more. */
function coefficientsReduced(encoded: Uint8Array): boolean {
  let reduced = true;
  for (let i = 0; i + 2 < encoded.length; i += 3) {
    const b = encoded[i + 1] ?? 0;
    const first = (encoded[i] ?? 0) | ((b & 0x0f) << 8);
    const second = (b >>> 4) | ((encoded[i + 2] ?? 0) << 4);
    if (first >= Q || second >= Q) reduced = false;
  }
  return reduced;
}

/**
 * Section 7.2, type and modulus check of an encapsulation key.
 * @throws TwofoldError invalid_value
 */
export function checkEncapsulationKey(set: MlKemParameterSet, publicKey: Uint8Array): void {
  const valid =
    publicKey.length === ML_KEM_LENGTHS[set].publicKey &&
    coefficientsReduced(publicKey.subarray(0, -RHO_LENGTH));
  if (!valid) throw new TwofoldError('invalid_value', `The public key is not one of ${set}.`);
}

/**
 * Section 7.3, type check of a ciphertext. (The hash check of the section is about expanded private
 * keys; ours are seeds.)
 * @throws TwofoldError decryption_failed
 */
export function checkCiphertext(set: MlKemParameterSet, ciphertext: Uint8Array): void {
  if (ciphertext.length !== ML_KEM_LENGTHS[set].ciphertext) {
    throw new TwofoldError('decryption_failed');
  }
}

/**
 * The pairwise consistency test of FIPS 140-3 IG 10.3.A: what is encapsulated to the public key
 * comes back by the seed that is kept. Wipes the seed of a pair that fails.
 *
 * @throws TwofoldError internal
 */
export async function consistentKemPair(
  mlKem: Pick<MlKem, 'importSeed' | 'encapsulate'>,
  set: MlKemParameterSet,
  pair: SeedPair,
): Promise<SeedPair> {
  try {
    const { sharedSecret, ciphertext } = await mlKem.encapsulate(set, pair.publicKey);
    const key = mlKem.importSeed(set, pair.seed);
    try {
      const returned = await key.decapsulate(ciphertext);
      const equal = equalBytes(returned.reveal(), sharedSecret.reveal());
      wipe(returned);
      if (equal) return pair;
    } finally {
      key.release();
      wipe(sharedSecret);
    }
    throw new TwofoldError('internal', `A new pair of ${set} is not consistent.`);
  } catch (error) {
    wipe(pair.seed);
    throw error;
  }
}
