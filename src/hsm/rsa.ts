/** RSA public keys as bytes, and the parameters of the paddings that the service uses. */
import { constants, createPublicKey, publicEncrypt, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { nodeHash } from '../crypto/digests.ts';
import { TwofoldError } from '../errors.ts';
import { CKG, CKM, CKZ_DATA_SPECIFIED, CK_PARAMS } from './cryptoki.ts';
import type { Mechanism } from './cryptoki.ts';
import type { HsmHash, HsmKeySpec, RsaBits } from './port.ts';

export type RsaSpec = Extract<HsmKeySpec, { kind: 'rsa' }>;
export type RsaSigningSpec = Extract<RsaSpec, { use: 'sign' }>;

/** The mechanism that opens OAEP ciphertexts (oaep-call.ts). */
export type OaepWay = typeof CKM.RSA_PKCS_OAEP | typeof CKM.RSA_X_509;

/** 65537, big-endian. */
export const PUBLIC_EXPONENT = Uint8Array.of(1, 0, 1);

/** DER of INTEGER 65537. */
const EXPONENT_DER = Buffer.from('0203010001', 'hex');

export const HASH_BYTES: Readonly<Record<HsmHash, 32 | 48 | 64>> = {
  'SHA-256': 32,
  'SHA-384': 48,
  'SHA-512': 64,
};

interface HashRow {
  readonly mechanism: number;
  readonly mgf: number;
  /** DER of DigestInfo up to the digest (RFC 8017 section 9.2, note 1). */
  readonly digestInfo: Buffer;
}

const HASHES: Readonly<Record<HsmHash, HashRow>> = {
  'SHA-256': {
    mechanism: CKM.SHA256,
    mgf: CKG.MGF1_SHA256,
    digestInfo: Buffer.from('3031300d060960864801650304020105000420', 'hex'),
  },
  'SHA-384': {
    mechanism: CKM.SHA384,
    mgf: CKG.MGF1_SHA384,
    digestInfo: Buffer.from('3041300d060960864801650304020205000430', 'hex'),
  },
  'SHA-512': {
    mechanism: CKM.SHA512,
    mgf: CKG.MGF1_SHA512,
    digestInfo: Buffer.from('3051300d060960864801650304020305000440', 'hex'),
  },
};

/** CKM_RSA_PKCS_PSS with MGF1 of the same hash, salt as long as the hash. */
export function pssMechanism(hash: HsmHash): Mechanism {
  const { mechanism: hashAlg, mgf } = HASHES[hash];
  const parameter = { type: CK_PARAMS.RSA_PSS, hashAlg, mgf, saltLen: HASH_BYTES[hash] };
  return { mechanism: CKM.RSA_PKCS_PSS, parameter };
}

/** CKM_RSA_PKCS_OAEP with MGF1 of the same hash and an empty label. */
export function oaepMechanism(hash: HsmHash): Mechanism {
  const { mechanism: hashAlg, mgf } = HASHES[hash];
  const parameter = { type: CK_PARAMS.RSA_OAEP, hashAlg, mgf, source: CKZ_DATA_SPECIFIED };
  return { mechanism: CKM.RSA_PKCS_OAEP, parameter };
}

/** What CKM_RSA_PKCS pads: the hash's name and the digest. */
export function digestInfo(hash: HsmHash, digest: Uint8Array): Buffer {
  return Buffer.concat([HASHES[hash].digestInfo, digest]);
}

/** The DER of RSAPublicKey with exponent 65537, of a modulus without leading zeros whose top bit is set. */
export function encodeRsaPublicKey(modulus: Uint8Array): Uint8Array {
  const prefix = derPrefix((modulus.length * 8) as RsaBits);
  return Uint8Array.from(Buffer.concat([prefix, modulus, EXPONENT_DER]));
}

/**
 * The modulus in exactly the encoding that `encodeRsaPublicKey` gives; undefined for anything else. It
 * has the full length and is odd.
 */
export function modulusOf(bits: RsaBits, publicKey: Uint8Array): Uint8Array | undefined {
  const prefix = derPrefix(bits);
  const end = prefix.length + bits / 8;
  if (publicKey.length !== end + EXPONENT_DER.length) return undefined;
  if (!prefix.equals(publicKey.subarray(0, prefix.length))) return undefined;
  if (!EXPONENT_DER.equals(publicKey.subarray(end))) return undefined;
  const modulus = publicKey.subarray(prefix.length, end);
  const isWhole = (modulus[0] ?? 0) >= 0x80 && ((modulus.at(-1) ?? 0) & 1) === 1;
  return isWhole ? modulus : undefined;
}

/** SEQUENCE { INTEGER of the modulus, whose sign needs a zero byte; both lengths take two bytes. */
function derPrefix(bits: RsaBits): Buffer {
  const integer = bits / 8 + 1;
  const header = Buffer.from('3082000002820000', 'hex');
  header.writeUInt16BE(4 + integer + EXPONENT_DER.length, 2);
  header.writeUInt16BE(integer, 6);
  return Buffer.concat([header, Buffer.alloc(1)]);
}

/** Numbers of the same length, big-endian. */
export function isBelow(number: Uint8Array, modulus: Uint8Array): boolean {
  return number.length === modulus.length && Buffer.compare(number, modulus) < 0;
}

/** For node:crypto. @throws TwofoldError `integrity_failed` for what is no public key of that size */
export function rsaPublicKey(bits: RsaBits, publicKey: Uint8Array): KeyObject {
  if (modulusOf(bits, publicKey) === undefined) {
    throw new TwofoldError('integrity_failed', 'a recorded RSA public key is malformed');
  }
  return createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'pkcs1' });
}

/** By node:crypto, over a message; for checks of our own. */
export function verifyRsa(
  spec: RsaSigningSpec,
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  const key = rsaPublicKey(spec.bits, publicKey);
  const padding =
    spec.padding === 'pss'
      ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: HASH_BYTES[spec.hash] }
      : { padding: constants.RSA_PKCS1_PADDING };
  return verify(nodeHash(spec.hash), message, { key, ...padding }, signature);
}

/** By node:crypto; for checks of our own. */
export function encryptOaep(
  spec: Extract<RsaSpec, { use: 'decrypt' }>,
  publicKey: Uint8Array,
  message: Uint8Array,
): Uint8Array {
  const key = rsaPublicKey(spec.bits, publicKey);
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  return publicEncrypt({ key, padding, oaepHash: nodeHash(spec.hash) }, message);
}
