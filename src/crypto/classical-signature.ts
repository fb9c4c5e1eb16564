/**
 * The classical signature schemes: what the HSM is given to sign, the published form of what it
 * gives, and verification in the host, over a message by OpenSSL and over a digest by us, because
 * node:crypto has no call for that.
 */
import { constants, createPublicKey, publicDecrypt, verify } from 'node:crypto';
import type { KeyObject, VerifyKeyObjectInput } from 'node:crypto';

import { p256, p384, p521 } from '@noble/curves/nist.js';

import { TwofoldError } from '../errors.ts';
import { concatBytes, equalBytes } from './bytes.ts';
import { derNull, derObjectIdentifier, derOctetString, derSequence } from './der.ts';
import { DIGEST_LENGTHS, digestBytes, nodeHash } from './digests.ts';
import { decodeEcdsaSignature, encodeEcdsaSignature } from './ecdsa.ts';
import { NAMED_CURVES } from './key-encoding.ts';
import {
  importPoint,
  isEdwardsPublicKey,
  isPoint,
  isServiceRsaKey,
  readRsaPublicKey,
  rsaPublicKeyLength,
} from './raw-public-key.ts';
import type { RsaBits } from './hsm-key.ts';
import type { Hash, SigningCurve } from './suite.ts';

export interface ClassicalScheme {
  readonly lengths: { readonly publicKey: number; readonly signatureMax: number };
  /** Whose digest the HSM signs; null: the message itself. */
  readonly hash: Hash | null;
  /** @throws TwofoldError invalid_value */
  checkPublicKey(publicKey: Uint8Array): void;
  /**
   * The published signature of what `Hsm.sign` gave.
   * @throws RangeError when that cannot be one (a broken signer, not a caller's input)
   */
  encode(signed: Uint8Array): Uint8Array;
  /**
   * False for a signature of any other form than the published one. Rejects with OpenSSL's error
   * when the host cannot compute: a fault is not an invalid signature.
   * @throws TwofoldError invalid_value for a public key that is none
   */
  verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): Promise<boolean>;
  /** As `verify`, over a digest of `hash`. */
  verifyDigest(publicKey: Uint8Array, digest: Uint8Array, signature: Uint8Array): Promise<boolean>;
}

function refuseKey(): never {
  throw new TwofoldError('invalid_value', 'The classical public key is not valid.');
}

function requireLength(signature: Uint8Array, length: number): Uint8Array {
  if (signature.length === length) return signature;
  throw new RangeError('the signer gave a signature of the wrong length');
}

/** In libuv's threads. */
function verifyNatively(
  hash: Hash | null,
  message: Uint8Array,
  key: VerifyKeyObjectInput,
  signature: Uint8Array,
): Promise<boolean> {
  return new Promise((resolve, reject) => {
    verify(hash === null ? null : nodeHash(hash), message, key, signature, (error, valid) => {
      if (error === null) resolve(valid);
      else reject(error);
    });
  });
}

const NOBLE = { 'P-256': p256, 'P-384': p384, 'P-521': p521 } as const;
/** SEQUENCE (long form for P-521) and two INTEGER headers, with a sign byte each. */
const DER_OVERHEAD = { 'P-256': 8, 'P-384': 8, 'P-521': 7 } as const;

/** ECDSA (FIPS 186-5 section 6.4); published as Ecdsa-Sig-Value in DER (RFC 3279 section 2.2.3). */
export function ecdsaScheme(curve: SigningCurve, hash: Hash): ClassicalScheme {
  const { length } = NAMED_CURVES[curve];

  function importKey(publicKey: Uint8Array): KeyObject {
    return importPoint(curve, publicKey) ?? refuseKey();
  }

  return {
    lengths: { publicKey: 1 + 2 * length, signatureMax: 2 * length + DER_OVERHEAD[curve] },
    hash,
    checkPublicKey: (publicKey) => {
      if (!isPoint(curve, publicKey)) refuseKey();
    },
    encode: (signed) => encodeEcdsaSignature(curve, signed),
    verify: async (publicKey, message, signature) => {
      const key = importKey(publicKey);
      const raw = decodeEcdsaSignature(curve, signature);
      if (raw === undefined) return false;
      return verifyNatively(hash, message, { key, dsaEncoding: 'ieee-p1363' }, raw);
    },
    verifyDigest: (publicKey, digest, signature) => {
      if (!isPoint(curve, publicKey)) refuseKey();
      const raw = decodeEcdsaSignature(curve, signature);
      const valid =
        raw !== undefined &&
        NOBLE[curve].verify(raw, digest, publicKey, { prehash: false, lowS: false });
      return Promise.resolve(valid);
    },
  };
}

const ED25519 = { publicKey: 32, signatureMax: 64 } as const;

/** Pure Ed25519 (RFC 8032 section 5.1): no digest, no context. */
export const ed25519Scheme: ClassicalScheme = {
  lengths: ED25519,
  hash: null,
  checkPublicKey: (publicKey) => {
    if (!isEdwardsPublicKey('Ed25519', publicKey)) refuseKey();
  },
  encode: (signed) => requireLength(signed, ED25519.signatureMax),
  verify: async (publicKey, message, signature) => {
    if (publicKey.length !== ED25519.publicKey) refuseKey();
    if (signature.length !== ED25519.signatureMax) return false;
    const key = createPublicKey({
      key: Buffer.from(publicKey),
      format: 'raw-public',
      asymmetricKeyType: 'ed25519',
    });
    return verifyNatively(null, message, { key }, signature);
  },
  verifyDigest: () => {
    throw new TwofoldError('invalid_value', 'Ed25519 signs messages, not digests.');
  },
};

const HASH_OIDS: Readonly<Record<Hash, string>> = {
  'SHA-256': '2.16.840.1.101.3.4.2.1',
  'SHA-384': '2.16.840.1.101.3.4.2.2',
  'SHA-512': '2.16.840.1.101.3.4.2.3',
};

/** EMSA-PKCS1-v1_5 (RFC 8017 section 9.2): 00 01 ‖ FF… ‖ 00 ‖ DigestInfo. */
function pkcs1Block(hash: Hash, digest: Uint8Array, length: number): Uint8Array {
  const algorithm = derSequence(derObjectIdentifier(HASH_OIDS[hash]), derNull());
  const info = derSequence(algorithm, derOctetString(digest));
  const padding = new Uint8Array(length - info.length - 3).fill(0xff);
  return concatBytes(Uint8Array.of(0, 1), padding, Uint8Array.of(0), info);
}

/** MGF1 (RFC 8017 appendix B.2.1). */
function mgf1(hash: Hash, seed: Uint8Array, length: number): Uint8Array {
  const blocks: Uint8Array[] = [];
  for (let i = 0; i * DIGEST_LENGTHS[hash] < length; i += 1) {
    blocks.push(digestBytes(hash, concatBytes(seed, Uint8Array.of(0, 0, i >>> 8, i & 0xff))));
  }
  return concatBytes(...blocks).subarray(0, length);
}

/**
 * EMSA-PSS-VERIFY (RFC 8017 section 9.1.2) with a salt as long as the hash, of a block of a modulus
 * whose length in bits is a multiple of 8: the encoded message has one bit less.
 */
function isPssBlock(hash: Hash, digest: Uint8Array, block: Uint8Array): boolean {
  const hashLength = DIGEST_LENGTHS[hash];
  const maskedLength = block.length - hashLength - 1;
  if (block.at(-1) !== 0xbc || ((block[0] ?? 0) & 0x80) !== 0) return false;
  const expected = block.subarray(maskedLength, -1);
  const mask = mgf1(hash, expected, maskedLength);
  const data = block.subarray(0, maskedLength).map((byte, i) => byte ^ (mask[i] ?? 0));
  data[0] = (data[0] ?? 0) & 0x7f;
  const saltStart = maskedLength - hashLength;
  const separator = data.findIndex((byte) => byte !== 0);
  if (separator !== saltStart - 1 || data[separator] !== 1) return false;
  const salt = data.subarray(saltStart);
  const computed = digestBytes(hash, concatBytes(new Uint8Array(8), digest, salt));
  return equalBytes(computed, expected);
}

/** RSASSA-PSS (MGF1 with the same hash, salt as long as it) or RSASSA-PKCS1-v1_5 (RFC 8017 section 8). */
export function rsaScheme(bits: RsaBits, padding: 'pss' | 'pkcs1', hash: Hash): ClassicalScheme {
  const length = bits / 8;

  function importKey(publicKey: Uint8Array): KeyObject {
    if (!isServiceRsaKey(bits, publicKey)) refuseKey();
    return createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'pkcs1' });
  }

  const options =
    padding === 'pss'
      ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: DIGEST_LENGTHS[hash] }
      : { padding: constants.RSA_PKCS1_PADDING };

  return {
    lengths: { publicKey: rsaPublicKeyLength(bits), signatureMax: length },
    hash,
    checkPublicKey: (publicKey) => void importKey(publicKey),
    encode: (signed) => requireLength(signed, length),
    verify: async (publicKey, message, signature) => {
      const key = importKey(publicKey);
      if (signature.length !== length) return false;
      return verifyNatively(hash, message, { key, ...options }, signature);
    },
    verifyDigest: (publicKey, digest, signature) => {
      const key = importKey(publicKey);
      const { n } = readRsaPublicKey(publicKey);
      // RSAVP1 takes representatives below the modulus alone (RFC 8017 section 5.2.2).
      if (signature.length !== length || Buffer.compare(signature, n) >= 0) {
        return Promise.resolve(false);
      }
      const block = publicDecrypt({ key, padding: constants.RSA_NO_PADDING }, signature);
      const valid =
        padding === 'pss'
          ? isPssBlock(hash, digest, block)
          : equalBytes(block, pkcs1Block(hash, digest, length));
      return Promise.resolve(valid);
    },
  };
}
