/** Private halves in software, for tests: what an HSM and the seed cache are in the service. */
import { createPrivateKey, createPublicKey, diffieHellman, randomBytes } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import { p256, p384 } from '@noble/curves/nist.js';

import { exportPublicKey, importPublicKey } from '../../src/crypto/curve.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import type { Engine, MlDsaParameterSet, MlKemParameterSet } from '../../src/crypto/engine.ts';
import type {
  AeadKey,
  Curve,
  KemHalves,
  KemSuite,
  SignatureSuite,
  SignHalves,
} from '../../src/crypto/suite.ts';
import { isComposite, isHybridKem } from '../../src/crypto/suite.ts';
import { SUITES } from '../../src/crypto/suites.ts';
import { aes256Gcm } from '../../src/crypto/aead.ts';

export function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

export function privateKeyOf(curve: Curve, scalar: Uint8Array): KeyObject {
  const key = Buffer.from(scalar);
  return curve === 'X25519'
    ? createPrivateKey({ key, format: 'raw-private', asymmetricKeyType: 'x25519' })
    : createPrivateKey({ key, format: 'raw-private', asymmetricKeyType: 'ec', namedCurve: curve });
}

export function classicalPublicKey(curve: Curve, scalar: Uint8Array): Uint8Array {
  return exportPublicKey(createPublicKey(privateKeyOf(curve, scalar)));
}

/** ECDH as the token does it: raw output. */
export function derive(curve: Curve, scalar: Uint8Array, peer: Uint8Array): SecretBytes {
  const privateKey = privateKeyOf(curve, scalar);
  const publicKey = importPublicKey(curve, peer);
  return SecretBytes.own(Uint8Array.from(diffieHellman({ privateKey, publicKey })));
}

/** ECDSA over a digest as CKM_ECDSA does it: r ‖ s. */
export function signDigest(curve: 'P-256' | 'P-384', scalar: Uint8Array, digest: Uint8Array) {
  const group = curve === 'P-256' ? p256 : p384;
  return group.sign(digest, scalar, { prehash: false, lowS: false });
}

/** A scalar in range for any of the curves: the top byte zero. */
export function randomScalar(curve: Curve): Uint8Array {
  const scalar = Uint8Array.from(randomBytes(curve === 'P-384' ? 48 : 32));
  if (curve !== 'X25519') scalar[0] = 0;
  return scalar;
}

/** The group of a hybrid's classical half. */
export function derivingCurve({ id, hsm }: KemSuite): Curve {
  if (hsm?.kind === 'x25519') return 'X25519';
  if (hsm?.kind === 'ec' && hsm.use === 'derive') return hsm.curve;
  throw new TypeError(`${id} has no Diffie-Hellman half`);
}

/** The curve of a composite with ECDSA over P-256 or P-384. */
export function signingCurve({ id, hsm }: SignatureSuite): 'P-256' | 'P-384' {
  if (hsm?.kind === 'ec' && hsm.use === 'sign' && hsm.curve !== 'P-521') return hsm.curve;
  throw new TypeError(`${id} has no half in ECDSA over P-256 or P-384`);
}

export const HYBRID_KEMS = Object.values(SUITES).filter(isHybridKem);

/** The composites whose halves stand here in software. */
export const EC_COMPOSITES = Object.values(SUITES)
  .filter(isComposite)
  .filter(({ hsm }) => hsm.kind === 'ec' && hsm.curve !== 'P-521');

/** One version of a hybrid KEM key, its private side in software. */
export interface KemKey {
  readonly suite: KemSuite;
  readonly publicKey: Uint8Array;
  readonly halves: KemHalves;
  readonly seed: Uint8Array;
  readonly scalar: Uint8Array;
}

export function kemKey(
  engine: Engine,
  suite: KemSuite,
  seed: Uint8Array,
  scalar: Uint8Array,
): KemKey {
  const curve = derivingCurve(suite);
  const set = suite.pq as MlKemParameterSet;
  const secret = SecretBytes.copyOf(seed);
  const key = engine.mlKem.importSeed(set, secret);
  const pq = engine.mlKem.publicKey(set, secret);
  const classical = classicalPublicKey(curve, scalar);
  return {
    suite,
    publicKey: suite.kem.joinPublicKey(engine, { pq, classical }),
    halves: {
      pq: (ciphertext) => key.decapsulate(ciphertext),
      classical: async (peer) => derive(curve, scalar, peer),
    },
    seed,
    scalar,
  };
}

export function randomKemKey(engine: Engine, suite: KemSuite): KemKey {
  const scalar = randomScalar(derivingCurve(suite));
  return kemKey(engine, suite, Uint8Array.from(randomBytes(64)), scalar);
}

/** At once, where the engines answer by a promise. */
function mlDsaPublicKey(set: MlDsaParameterSet, seed: Uint8Array): Uint8Array {
  const key = createPrivateKey({
    key: Buffer.from(seed),
    format: 'raw-seed',
    asymmetricKeyType: set.toLowerCase() as 'ml-dsa-65',
  });
  return Uint8Array.from(createPublicKey(key).export({ format: 'raw-public' }));
}

/** One version of a composite signature key. */
export interface SignatureKey {
  readonly suite: SignatureSuite;
  readonly publicKey: Uint8Array;
  readonly halves: SignHalves;
}

export function signatureKey(
  engine: Engine,
  suite: SignatureSuite,
  seed: Uint8Array,
  scalar: Uint8Array,
): SignatureKey {
  const curve = signingCurve(suite);
  const set = suite.pq as MlDsaParameterSet;
  const secret = SecretBytes.copyOf(seed);
  const key = engine.signatures.importSeed(set, secret);
  const pq = mlDsaPublicKey(set, seed);
  const classical = classicalPublicKey(curve, scalar);
  return {
    suite,
    publicKey: suite.signer.joinPublicKey({ pq, classical }),
    halves: {
      pq: (message, context) => key.sign(message, context),
      mu: (mu) => key.signMu(mu),
      classical: async (digest) => signDigest(curve, scalar, digest),
    },
  };
}

export function randomSignatureKey(engine: Engine, suite: SignatureSuite): SignatureKey {
  const scalar = randomScalar(signingCurve(suite));
  return signatureKey(engine, suite, Uint8Array.from(randomBytes(32)), scalar);
}

/** A symmetric key as the HSM serves it: it chooses the nonce. */
export function aeadKey(key: Uint8Array): AeadKey {
  const secret = SecretBytes.copyOf(key);
  return {
    encrypt: async (plaintext, associatedData) => {
      const nonce = Uint8Array.from(randomBytes(12));
      const input = SecretBytes.copyOf(plaintext);
      return { nonce, ciphertext: aes256Gcm.seal(secret, nonce, associatedData, input) };
    },
    decrypt: async (nonce, ciphertext, associatedData) =>
      aes256Gcm.open(secret, nonce, associatedData, ciphertext),
  };
}
