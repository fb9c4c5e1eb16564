/** Software private sides of the stored data of P8: what HSM and engine do, from fixed secrets. */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { x25519 } from '@noble/curves/ed25519.js';
import { p256, p384 } from '@noble/curves/nist.js';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { derivingCurve } from '../crypto/software-halves.ts';
import type { MlKemParameterSet } from '../../src/crypto/engine.ts';
import type { AeadKey, KemHalves, KemSuite } from '../../src/crypto/suite.ts';

export interface StoredSecrets {
  readonly suite: string;
  readonly keyId: string;
  readonly keyVersion: number;
  /** Hex of the ML-KEM seed, the classical scalar and the psk; of a symmetric key in `classical`. */
  readonly pq: string;
  readonly classical: string;
  readonly psk: string;
}

export interface StoredWrap extends StoredSecrets {
  readonly encryptionContext: Readonly<Record<string, string>>;
  readonly aad: string;
  readonly plaintext: string;
  /** Text form of the envelopes, by mode. */
  readonly envelopes: Readonly<Record<string, string>>;
}

export const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));
export const secretOf = (hex: string): SecretBytes => SecretBytes.own(bytes(hex));

const CURVES = { 'P-256': p256, 'P-384': p384, X25519: x25519 } as const;

const curveOf = (suite: KemSuite) => CURVES[derivingCurve(suite)];
const setOf = (suite: KemSuite) => suite.pq as MlKemParameterSet;

export function publicKeyOf(suite: KemSuite, secrets: StoredSecrets): Uint8Array {
  const pq = nativeEngine.mlKem.publicKey(setOf(suite), secretOf(secrets.pq));
  const curve = curveOf(suite);
  const classical =
    curve === x25519
      ? x25519.getPublicKey(bytes(secrets.classical))
      : (curve as typeof p256).getPublicKey(bytes(secrets.classical), false);
  return suite.kem.joinPublicKey(nativeEngine, { pq, classical });
}

export function halvesOf(suite: KemSuite, secrets: StoredSecrets): KemHalves {
  const key = nativeEngine.mlKem.importSeed(setOf(suite), secretOf(secrets.pq));
  const curve = curveOf(suite);
  return {
    pq: (ciphertext) => key.decapsulate(ciphertext),
    classical: async (peer) => {
      const shared = curve.getSharedSecret(bytes(secrets.classical), peer);
      return Promise.resolve(SecretBytes.own(curve === x25519 ? shared : shared.slice(1)));
    },
  };
}

export function aeadOf({ classical }: StoredSecrets, iv: Uint8Array): AeadKey {
  return {
    encrypt: async (plaintext, aad) => {
      const cipher = createCipheriv('aes-256-gcm', bytes(classical), iv).setAAD(aad);
      const parts = [cipher.update(plaintext), cipher.final(), cipher.getAuthTag()];
      return Promise.resolve({ nonce: iv, ciphertext: Uint8Array.from(Buffer.concat(parts)) });
    },
    decrypt: async (nonce, sealed, aad) => {
      const cipher = createDecipheriv('aes-256-gcm', bytes(classical), nonce, {
        authTagLength: 16,
      });
      cipher.setAAD(aad).setAuthTag(sealed.subarray(-16));
      const opened = Buffer.concat([cipher.update(sealed.subarray(0, -16)), cipher.final()]);
      return Promise.resolve(SecretBytes.own(opened));
    },
  };
}
