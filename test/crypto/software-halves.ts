/** Private halves in software, for tests: what an HSM and the seed cache are in the service. */
import {
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  randomBytes,
} from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import { falcon1024padded, falcon512padded } from '@noble/post-quantum/falcon.js';

import { exportPublicKey, importPublicKey } from '../../src/crypto/curve.ts';
import { SIGNATURE_LENGTHS } from '../../src/crypto/engine.ts';
import { hasNatively, nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import type { Engine, SignatureParameterSet } from '../../src/crypto/engine.ts';
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
import {
  decapsulateClassical,
  publicKeyOf,
  randomPrivateKey,
  signClassical,
} from './classical-keys.ts';
import type { PairSpec, PrivateBytes } from './classical-keys.ts';

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

export const KEM_ROWS = Object.values(SUITES).filter((suite) => suite.kind === 'kem');
export const SIGNATURE_ROWS = Object.values(SUITES).filter((suite) => suite.kind === 'signature');
export const HYBRID_KEMS = KEM_ROWS.filter(isHybridKem);
export const COMPOSITES = SIGNATURE_ROWS.filter(isComposite);

const NOTHING = new Uint8Array(0);

/** OpenSSL where it has the post-quantum half, as in the service. */
export function engineOf({ pq }: KemSuite | SignatureSuite): Engine {
  return pq === null || hasNatively(pq) ? nativeEngine : portableEngine;
}

/** The spec of the half in the HSM; null where there is none. */
export function pairSpec({ id, hsm }: KemSuite | SignatureSuite): PairSpec | null {
  if (hsm === null || 'use' in hsm) return hsm;
  throw new TypeError(`${id} has a symmetric key`);
}

const absent = () => {
  throw new Error('the suite has no such half');
};

function classicalPublicKeyOf(spec: PairSpec | null, bytes: PrivateBytes): Uint8Array {
  return spec === null ? NOTHING : publicKeyOf(spec, bytes);
}

/** One version of a KEM key, its private side in software; a half that the suite lacks is empty. */
export interface KemKey {
  readonly suite: KemSuite;
  readonly publicKey: Uint8Array;
  readonly halves: KemHalves;
  readonly seed: Uint8Array;
  readonly scalar: PrivateBytes;
}

export function kemKey(
  engine: Engine,
  suite: KemSuite,
  seed: Uint8Array,
  scalar: PrivateBytes,
): KemKey {
  const { pq: set } = suite;
  const spec = pairSpec(suite);
  const secret = SecretBytes.copyOf(seed);
  const key = set === null ? null : engine.mlKem.importSeed(set, secret);
  const pq = set === null ? NOTHING : engine.mlKem.publicKey(set, secret);
  const classical = classicalPublicKeyOf(spec, scalar);
  return {
    suite,
    publicKey: suite.kem.joinPublicKey(engine, { pq, classical }),
    halves: {
      pq: (ciphertext) => key?.decapsulate(ciphertext) ?? absent(),
      classical: (input) => (spec === null ? absent() : decapsulateClassical(spec, scalar, input)),
    },
    seed,
    scalar,
  };
}

/** @param unlike a key of the suite that it must not be */
export function randomKemKey(engine: Engine, suite: KemSuite, unlike?: KemKey): KemKey {
  const spec = pairSpec(suite);
  const seed = suite.pq === null ? NOTHING : Uint8Array.from(randomBytes(64));
  const scalar = spec === null ? NOTHING : randomPrivateKey(spec, unlike?.scalar);
  return kemKey(engine, suite, seed, scalar);
}

interface PqPair {
  readonly seed: Uint8Array;
  readonly publicKey: Uint8Array;
}

/** At once, where the engines answer by a promise. */
function pqPublicKey(set: SignatureParameterSet, seed: Uint8Array): Uint8Array {
  if (set === 'Falcon-512') return falcon512padded.keygen(seed).publicKey;
  if (set === 'Falcon-1024') return falcon1024padded.keygen(seed).publicKey;
  const key = createPrivateKey({
    key: Buffer.from(seed),
    format: 'raw-seed',
    asymmetricKeyType: set.toLowerCase() as 'ml-dsa-65',
  });
  return Uint8Array.from(createPublicKey(key).export({ format: 'raw-public' }));
}

function randomPqPair(set: SignatureParameterSet): PqPair {
  const { seed: length } = SIGNATURE_LENGTHS[set];
  if (set.startsWith('SLH-DSA')) {
    const type = set.toLowerCase() as 'slh-dsa-sha2-128s';
    const { privateKey, publicKey } = generateKeyPairSync(type);
    const whole = privateKey.export({ format: 'raw-private' });
    return {
      seed: Uint8Array.from(whole.subarray(0, length)),
      publicKey: Uint8Array.from(publicKey.export({ format: 'raw-public' })),
    };
  }
  const seed = Uint8Array.from(randomBytes(length));
  return { seed, publicKey: pqPublicKey(set, seed) };
}

/** The halves of a private key of draft-ietf-lamps-pq-composite-sigs section 4: seed, then the other. */
export function splitCompositeKey(
  suite: SignatureSuite,
  privateKey: Uint8Array,
): { readonly seed: Uint8Array; readonly scalar: PrivateBytes } {
  const [seed, classical] = [privateKey.subarray(0, 32), privateKey.subarray(32)];
  const spec = pairSpec(suite);
  if (spec?.kind !== 'ec') return { seed, scalar: classical };
  // ECPrivateKey of less than 128 bytes: two headers and a version before the octet string.
  const length = classical[6] ?? 0;
  return { seed, scalar: classical.subarray(7, 7 + length) };
}

/** One version of a signature key. */
export interface SignatureKey {
  readonly suite: SignatureSuite;
  readonly publicKey: Uint8Array;
  readonly halves: SignHalves;
  readonly scalar: PrivateBytes;
}

/** @param seed not of SLH-DSA, whose public keys take seconds */
export function signatureKey(
  engine: Engine,
  suite: SignatureSuite,
  seed: Uint8Array,
  scalar: PrivateBytes,
): SignatureKey {
  const pair = suite.pq === null ? null : { seed, publicKey: pqPublicKey(suite.pq, seed) };
  return keyOfPair(engine, suite, pair, scalar);
}

function keyOfPair(
  engine: Engine,
  suite: SignatureSuite,
  pair: PqPair | null,
  scalar: PrivateBytes,
): SignatureKey {
  const spec = pairSpec(suite);
  const key =
    suite.pq === null || pair === null
      ? null
      : engine.signatures.importSeed(suite.pq, SecretBytes.copyOf(pair.seed));
  const classical = classicalPublicKeyOf(spec, scalar);
  return {
    suite,
    publicKey: suite.signer.joinPublicKey({ pq: pair?.publicKey ?? NOTHING, classical }),
    halves: {
      pq: (message, context) => key?.sign(message, context) ?? absent(),
      mu: (mu) => key?.signMu(mu) ?? absent(),
      classical: (input) => (spec === null ? absent() : signClassical(spec, scalar, input)),
    },
    scalar,
  };
}

/** @param unlike a key of the suite that it must not be */
export function randomSignatureKey(
  engine: Engine,
  suite: SignatureSuite,
  unlike?: SignatureKey,
): SignatureKey {
  const spec = pairSpec(suite);
  const pair = suite.pq === null ? null : randomPqPair(suite.pq);
  const scalar = spec === null ? NOTHING : randomPrivateKey(spec, unlike?.scalar);
  return keyOfPair(engine, suite, pair, scalar);
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
