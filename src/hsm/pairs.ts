/** Key pairs as tokens make them: which mechanism, and how the public key is read. */
import { createPublicKey } from 'node:crypto';
import { TwofoldError } from '../errors.ts';
import type { Connection } from './connection.ts';
import { CKA, CKM } from './cryptoki.ts';
import type { Handle } from './cryptoki.ts';
import { readAttribute } from './objects.ts';
import { isValidPoint } from '../crypto/point.ts';
import { encodeRsaPublicKey, modulusOf, PUBLIC_EXPONENT } from './rsa.ts';
import type { RsaSpec } from './rsa.ts';
import type { PairSpec } from './templates.ts';

/** Montgomery pairs have a mechanism of their own since v3.0; older tokens make them as Edwards. */
export function pairMechanism(connection: Connection, spec: PairSpec): number {
  switch (spec.kind) {
    case 'ec':
      return CKM.EC_KEY_PAIR_GEN;
    case 'rsa':
      return CKM.RSA_PKCS_KEY_PAIR_GEN;
    case 'ed25519':
      return CKM.EC_EDWARDS_KEY_PAIR_GEN;
    case 'x25519':
      return connection.mechanisms.has(CKM.EC_MONTGOMERY_KEY_PAIR_GEN)
        ? CKM.EC_MONTGOMERY_KEY_PAIR_GEN
        : CKM.EC_EDWARDS_KEY_PAIR_GEN;
  }
}

/**
 * The raw public key of a pair that was just made.
 *
 * @throws TwofoldError `hsm_unavailable` when it is none of the kind and size that was asked for
 */
export function requirePublicKey(
  connection: Connection,
  spec: PairSpec,
  publicKey: Handle,
): Uint8Array {
  const read = (type: number) =>
    connection.run((session, cryptoki) => readAttribute(cryptoki, session, publicKey, type));
  const found =
    spec.kind === 'rsa'
      ? rsaKey(spec, read(CKA.MODULUS), read(CKA.PUBLIC_EXPONENT))
      : pointOf(spec, read(CKA.EC_POINT));
  if (found !== undefined) return found;
  throw new TwofoldError('hsm_unavailable', 'the token returned a public key that is not valid');
}

/** CKA_EC_POINT is an OCTET STRING around the point; a few tokens return the bare point. */
function pointOf(
  spec: Exclude<PairSpec, RsaSpec>,
  raw: Uint8Array | undefined,
): Uint8Array | undefined {
  const header = raw?.[1] === 0x81 ? 3 : 2;
  for (const candidate of raw === undefined ? [] : [raw.subarray(header), raw]) {
    if (isPoint(spec, candidate)) return Uint8Array.from(candidate);
  }
  return undefined;
}

function isPoint(spec: Exclude<PairSpec, RsaSpec>, candidate: Uint8Array): boolean {
  switch (spec.kind) {
    case 'x25519':
      return isValidPoint('X25519', candidate);
    case 'ed25519':
      // Any 32 bytes may be one; that the pair signs with it is tried before it is used.
      return candidate.length === 32;
    case 'ec':
      return spec.curve === 'P-521' ? isOnP521(candidate) : isValidPoint(spec.curve, candidate);
  }
}

/** By OpenSSL, which takes no point off the curve. */
function isOnP521(candidate: Uint8Array): boolean {
  if (candidate.length !== P521_POINT_BYTES || candidate[0] !== 0x04) return false;
  try {
    ecPublicKey('P-521', candidate);
    return true;
  } catch {
    return false;
  }
}

const P521_POINT_BYTES = 1 + 2 * 66;

/** A public key of an uncompressed point, for node:crypto. */
export function ecPublicKey(curve: 'P-256' | 'P-384' | 'P-521', point: Uint8Array) {
  const half = (point.length - 1) / 2;
  const coordinate = (from: number) =>
    Buffer.from(point.subarray(from, from + half)).toString('base64url');
  const key = { kty: 'EC', crv: curve, x: coordinate(1), y: coordinate(1 + half) };
  return createPublicKey({ key, format: 'jwk' });
}

/** Modulus and exponent as the token made them must be what was asked for. */
function rsaKey(
  spec: RsaSpec,
  modulus: Uint8Array | undefined,
  exponent: Uint8Array | undefined,
): Uint8Array | undefined {
  if (modulus === undefined || exponent === undefined) return undefined;
  if (!withoutZeros(exponent).equals(PUBLIC_EXPONENT)) return undefined;
  const bare = withoutZeros(modulus);
  if (bare.length !== spec.bits / 8) return undefined;
  const encoded = encodeRsaPublicKey(bare);
  return modulusOf(spec.bits, encoded) === undefined ? undefined : encoded;
}

/** A CK_BIG_INTEGER without the leading zeros that some tokens give it. */
export function withoutZeros(integer: Uint8Array): Buffer {
  const first = integer.findIndex((byte) => byte !== 0);
  return Buffer.from(first < 0 ? [] : integer.subarray(first));
}
