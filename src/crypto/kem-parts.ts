/**
 * The KEMs that suites are put together from: ML-KEM, one Diffie-Hellman, RSAES-OAEP of a random
 * secret. Lengths are fixed, so that joined keys and ciphertexts need no separators.
 */
import { constants, createPublicKey, publicEncrypt, randomBytes } from 'node:crypto';

import { TwofoldError } from '../errors.ts';
import { agreeEphemeral, checkPublicKey, CURVES } from './curve.ts';
import { ML_KEM_LENGTHS, ML_KEM_SHARED_SECRET_LENGTH } from './engine.ts';
import { isServiceRsaKey, rsaPublicKeyLength } from './raw-public-key.ts';
import { SecretBytes } from './secret.ts';
import type { Engine, MlKemParameterSet } from './engine.ts';
import type { RsaBits } from './hsm-key.ts';
import type { Curve, KemHalves } from './suite.ts';

export interface KemPart {
  readonly lengths: {
    readonly publicKey: number;
    readonly ciphertext: number;
    readonly secret: number;
  };
  /** @throws TwofoldError invalid_value for a key that may not be used */
  checkPublicKey(engine: Engine, publicKey: Uint8Array): void;
  /** What can be said of a ciphertext of the right length before a private key is touched. */
  isCiphertext(ciphertext: Uint8Array): boolean;
  /**
   * The caller owns `secret`.
   * @throws TwofoldError invalid_value as `checkPublicKey`
   */
  encapsulate(
    engine: Engine,
    publicKey: Uint8Array,
  ): Promise<{ readonly secret: SecretBytes; readonly ciphertext: Uint8Array }>;
  decapsulate(halves: KemHalves, ciphertext: Uint8Array): Promise<SecretBytes>;
}

/** FIPS 203; decapsulation rejects implicitly. */
export function mlKemPart(set: MlKemParameterSet): KemPart {
  return {
    lengths: { ...ML_KEM_LENGTHS[set], secret: ML_KEM_SHARED_SECRET_LENGTH },
    checkPublicKey: (engine, publicKey) => {
      engine.mlKem.checkPublicKey(set, publicKey);
    },
    isCiphertext: () => true,
    encapsulate: async (engine, publicKey) => {
      const { sharedSecret, ciphertext } = await engine.mlKem.encapsulate(set, publicKey);
      return { secret: sharedSecret, ciphertext };
    },
    decapsulate: (halves, ciphertext) => halves.pq(ciphertext),
  };
}

/** One ECDH: the ciphertext is the ephemeral public key, the secret the raw x-coordinate or output. */
export function diffieHellmanPart(curve: Curve): KemPart {
  const { publicKeyLength, fieldLength } = CURVES[curve];
  return {
    lengths: { publicKey: publicKeyLength, ciphertext: publicKeyLength, secret: fieldLength },
    checkPublicKey: (_engine, publicKey) => {
      checkPublicKey(curve, publicKey);
    },
    isCiphertext: (ciphertext) => {
      try {
        checkPublicKey(curve, ciphertext);
        return true;
      } catch (error) {
        if (TwofoldError.is(error, 'invalid_value')) return false;
        throw error;
      }
    },
    encapsulate: async (_engine, publicKey) => {
      const { publicKey: ciphertext, secret } = await agreeEphemeral(curve, publicKey);
      return { secret, ciphertext };
    },
    decapsulate: (halves, ciphertext) => halves.classical(ciphertext),
  };
}

const OAEP_SECRET_LENGTH = 32;
/** RSAES-OAEP (RFC 8017 section 7.1) with SHA-256, MGF1-SHA-256, empty label, of 32 random bytes. */
export function rsaOaepPart(bits: RsaBits): KemPart {
  const modulusLength = bits / 8;

  function checkRsaKey(publicKey: Uint8Array): void {
    if (!isServiceRsaKey(bits, publicKey)) {
      throw new TwofoldError('invalid_value', `The public key is not one of RSA-${String(bits)}.`);
    }
  }

  return {
    lengths: {
      publicKey: rsaPublicKeyLength(bits),
      ciphertext: modulusLength,
      secret: OAEP_SECRET_LENGTH,
    },
    checkPublicKey: (_engine, publicKey) => {
      checkRsaKey(publicKey);
    },
    // Whether it is below the modulus is for the HSM's port to check, which knows the key.
    isCiphertext: () => true,
    encapsulate: (_engine, publicKey) => {
      checkRsaKey(publicKey);
      const secret = SecretBytes.own(randomBytes(OAEP_SECRET_LENGTH));
      const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'pkcs1' });
      const padding = constants.RSA_PKCS1_OAEP_PADDING;
      const ciphertext = publicEncrypt({ key, padding, oaepHash: 'sha256' }, secret.reveal());
      return Promise.resolve({ secret, ciphertext: Uint8Array.from(ciphertext) });
    },
    decapsulate: async (halves, ciphertext) => {
      const secret = await halves.classical(ciphertext);
      if (secret.length === OAEP_SECRET_LENGTH) return secret;
      // Whoever has the public key can seal other lengths: no fault of ours, and no other answer.
      secret.wipe();
      throw new TwofoldError('decryption_failed');
    },
  };
}
