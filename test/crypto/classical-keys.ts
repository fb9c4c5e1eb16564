/** Classical private keys in software, by the spec of the HSM's key: what the token does for a suite. */
import {
  constants,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  privateDecrypt,
  privateEncrypt,
  randomBytes,
  sign,
} from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import { p256, p384, p521 } from '@noble/curves/nist.js';

import { exportPublicKey, importPublicKey } from '../../src/crypto/curve.ts';
import { nodeHash } from '../../src/crypto/digests.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { TwofoldError } from '../../src/errors.ts';
import { encodePss } from '../hsm/pss.ts';
import type { HsmHash, HsmKeySpec, RsaBits } from '../../src/crypto/hsm-key.ts';
import type { Curve, SigningCurve } from '../../src/crypto/suite.ts';

export type PairSpec = Extract<HsmKeySpec, { use: string }>;
type RsaSigning = Extract<PairSpec, { kind: 'rsa'; use: 'sign' }>;

const PKCS1 = { format: 'der', type: 'pkcs1' } as const;
const GROUPS = { 'P-256': p256, 'P-384': p384, 'P-521': p521 } as const;
const SCALAR_LENGTHS = { 'P-256': 32, 'P-384': 48, 'P-521': 66 } as const;
/** DigestInfo without the digest (RFC 8017 section 9.2, note 1). */
const DIGEST_INFOS: Readonly<Record<HsmHash, string>> = {
  'SHA-256': '3031300d060960864801650304020105000420',
  'SHA-384': '3041300d060960864801650304020205000430',
  'SHA-512': '3051300d060960864801650304020305000440',
};

/** A group's or an RSA private key: a big-endian scalar, 32 bytes, or RSAPrivateKey in DER. */
export type PrivateBytes = Uint8Array;

export function importPrivateKey(spec: PairSpec, bytes: PrivateBytes): KeyObject {
  const key = Buffer.from(bytes);
  switch (spec.kind) {
    case 'rsa':
      return createPrivateKey({ key, ...PKCS1 });
    case 'ec':
      return createPrivateKey({
        key,
        format: 'raw-private',
        asymmetricKeyType: 'ec',
        namedCurve: spec.curve,
      });
    case 'x25519':
    case 'ed25519':
      return createPrivateKey({ key, format: 'raw-private', asymmetricKeyType: spec.kind });
  }
}

/** The raw public key, as the HSM port gives it. */
export function publicKeyOf(spec: PairSpec, bytes: PrivateBytes): Uint8Array {
  const key = createPublicKey(importPrivateKey(spec, bytes));
  return spec.kind === 'rsa' ? Uint8Array.from(key.export(PKCS1)) : exportPublicKey(key);
}

const rsaKeys = new Map<RsaBits, Uint8Array[]>();

/** RSA keys are slow to make, so two of a size serve a whole process. */
function rsaKey(bits: RsaBits, unlike?: PrivateBytes): PrivateBytes {
  const made = rsaKeys.get(bits) ?? [];
  rsaKeys.set(bits, made);
  const found = made.find((key) => unlike === undefined || Buffer.compare(key, unlike) !== 0);
  if (found !== undefined) return found;
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: bits });
  const key = Uint8Array.from(privateKey.export(PKCS1));
  made.push(key);
  return key;
}

/** @param unlike a key of the same spec that it must not be */
export function randomPrivateKey(spec: PairSpec, unlike?: PrivateBytes): PrivateBytes {
  if (spec.kind === 'rsa') return rsaKey(spec.bits, unlike);
  const scalar = Uint8Array.from(randomBytes(spec.kind === 'ec' ? SCALAR_LENGTHS[spec.curve] : 32));
  // In range for any of the curves: P-521's top byte has one bit.
  if (spec.kind === 'ec') scalar.fill(0, 0, spec.curve === 'P-521' ? 2 : 1);
  return scalar;
}

/** ECDH as the token does it: raw output. */
function agree(spec: PairSpec, curve: Curve, bytes: PrivateBytes, peer: Uint8Array): SecretBytes {
  const privateKey = importPrivateKey(spec, bytes);
  const publicKey = importPublicKey(curve, peer);
  return SecretBytes.own(Uint8Array.from(diffieHellman({ privateKey, publicKey })));
}

function decryptOaep(bytes: PrivateBytes, ciphertext: Uint8Array): SecretBytes {
  const key = createPrivateKey({ key: Buffer.from(bytes), ...PKCS1 });
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  try {
    const opened = privateDecrypt({ key, padding, oaepHash: 'sha256' }, ciphertext);
    return SecretBytes.own(Uint8Array.from(opened));
  } catch (error) {
    throw new TwofoldError('decryption_failed', undefined, { cause: error });
  }
}

/** What a KEM asks of the key: ECDH with a peer, or RSAES-OAEP of a ciphertext. */
export async function decapsulateClassical(
  spec: PairSpec,
  bytes: PrivateBytes,
  ciphertext: Uint8Array,
): Promise<SecretBytes> {
  if (spec.kind === 'x25519') return agree(spec, 'X25519', bytes, ciphertext);
  if (spec.kind === 'ec' && spec.use === 'derive') {
    return agree(spec, spec.curve, bytes, ciphertext);
  }
  if (spec.kind === 'rsa' && spec.use === 'decrypt') return decryptOaep(bytes, ciphertext);
  throw new TypeError('a key that signs');
}

/** ECDSA over a digest as CKM_ECDSA does it: r ‖ s. */
export function signDigest(curve: SigningCurve, scalar: Uint8Array, digest: Uint8Array) {
  return GROUPS[curve].sign(digest, scalar, { prehash: false, lowS: false });
}

function signRsa(spec: RsaSigning, bytes: PrivateBytes, digest: Uint8Array): Uint8Array {
  const key = createPrivateKey({ key: Buffer.from(bytes), ...PKCS1 });
  if (spec.padding === 'pkcs1') {
    const info = Buffer.concat([Buffer.from(DIGEST_INFOS[spec.hash], 'hex'), digest]);
    return Uint8Array.from(privateEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, info));
  }
  return signRsaBlock(bytes, encodePss(nodeHash(spec.hash), digest, spec.bits));
}

/** RSASP1 of a block as long as the modulus. */
export function signRsaBlock(bytes: PrivateBytes, block: Uint8Array): Uint8Array {
  const key = createPrivateKey({ key: Buffer.from(bytes), ...PKCS1 });
  return Uint8Array.from(privateEncrypt({ key, padding: constants.RSA_NO_PADDING }, block));
}

/** What `Hsm.sign` gives: over a digest, or over a message for Ed25519. */
export async function signClassical(
  spec: PairSpec,
  bytes: PrivateBytes,
  input: Uint8Array,
): Promise<Uint8Array> {
  if (spec.kind === 'ed25519') {
    return Uint8Array.from(sign(null, input, importPrivateKey(spec, bytes)));
  }
  if (spec.kind === 'ec' && spec.use === 'sign') {
    return signDigest(spec.curve, bytes, input);
  }
  if (spec.kind === 'rsa' && spec.use === 'sign') return signRsa(spec, bytes, input);
  throw new TypeError('a key that does not sign');
}
