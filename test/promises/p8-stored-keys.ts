/** Software private sides of the stored data of P8: what HSM and engine do, from fixed secrets. */
import {
  constants,
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  privateDecrypt,
} from 'node:crypto';
import { x25519 } from '@noble/curves/ed25519.js';
import { p256, p384 } from '@noble/curves/nist.js';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { derivingCurve } from '../crypto/software-halves.ts';
import type { AeadKey, KemHalves, KemSuite } from '../../src/crypto/suite.ts';

export interface StoredSecrets {
  readonly suite: string;
  readonly keyId: string;
  readonly keyVersion: number;
  /**
   * Hex of the ML-KEM seed, the classical scalar (of RSA, RSAPrivateKey in DER) and the psk; of a
   * symmetric key in `classical`. Empty for a half that the suite does not have.
   */
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

type DerivingCurve = keyof typeof CURVES;
const CURVES = { 'P-256': p256, 'P-384': p384, X25519: x25519 } as const;

function publicPoint(curve: DerivingCurve, scalar: Uint8Array): Uint8Array {
  return curve === 'X25519'
    ? x25519.getPublicKey(scalar)
    : CURVES[curve].getPublicKey(scalar, false);
}

function sharedPoint(curve: DerivingCurve, scalar: Uint8Array, peer: Uint8Array): SecretBytes {
  const shared = CURVES[curve].getSharedSecret(scalar, peer);
  // noble gives a compressed point for the curves of NIST.
  return SecretBytes.own(curve === 'X25519' ? shared : shared.slice(1));
}

const rsaKeyOf = (der: string) =>
  createPrivateKey({ key: Buffer.from(der, 'hex'), format: 'der', type: 'pkcs1' });

function classicalPublicKeyOf(suite: KemSuite, { classical }: StoredSecrets): Uint8Array {
  if (suite.hsm === null) return new Uint8Array(0);
  if (suite.hsm.kind !== 'rsa') return publicPoint(derivingCurve(suite), bytes(classical));
  const publicKey = createPublicKey(rsaKeyOf(classical));
  return Uint8Array.from(publicKey.export({ format: 'der', type: 'pkcs1' }));
}

/** Halves that the suite does not have are empty. */
export function publicKeyOf(suite: KemSuite, secrets: StoredSecrets): Uint8Array {
  const { mlKem } = nativeEngine;
  const pq =
    suite.pq === null ? new Uint8Array(0) : mlKem.publicKey(suite.pq, secretOf(secrets.pq));
  const classical = classicalPublicKeyOf(suite, secrets);
  return suite.kem.joinPublicKey(nativeEngine, { pq, classical });
}

function decryptOaep(der: string, ciphertext: Uint8Array): SecretBytes {
  const key = rsaKeyOf(der);
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  const opened = privateDecrypt({ key, padding, oaepHash: 'sha256' }, ciphertext);
  return SecretBytes.own(Uint8Array.from(opened));
}

export function halvesOf(suite: KemSuite, secrets: StoredSecrets): KemHalves {
  const { classical } = secrets;
  return {
    pq: async (ciphertext) => {
      if (suite.pq === null) throw new TypeError(`${suite.id} has no post-quantum half`);
      return nativeEngine.mlKem.importSeed(suite.pq, secretOf(secrets.pq)).decapsulate(ciphertext);
    },
    classical: async (ciphertext) =>
      suite.hsm?.kind === 'rsa'
        ? decryptOaep(classical, ciphertext)
        : sharedPoint(derivingCurve(suite), bytes(classical), ciphertext),
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
