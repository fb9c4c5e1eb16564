/**
 * The form of raw public keys: lengths, the one encoding of a point or an RSA key. Whether a key of
 * the right form may be used (FIPS 203 section 7.2, weak RSA moduli) is its engine's to check.
 */
import { createPublicKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import { ed25519 } from '@noble/curves/ed25519.js';
import { ed448 } from '@noble/curves/ed448.js';

import { TwofoldError } from '../errors.ts';
import { equalBytes } from './bytes.ts';
import { derSequence, derUnsigned, readDer } from './der.ts';
import { NAMED_CURVES } from './key-encoding.ts';
import { isX25519PublicKey } from './point.ts';
import type { KeyEncoding, NamedCurve, OkpCurve, PublicKeyForm, RsaBits } from './key-encoding.ts';

/** Big-endian, without leading zeros. */
export interface RsaPublicNumbers {
  readonly n: Uint8Array;
  readonly e: Uint8Array;
}

function refuse(algorithm: string): never {
  throw new TwofoldError('invalid_value', `The public key is not one of ${algorithm}.`);
}

/**
 * @throws TwofoldError invalid_value unless `publicKey` has the raw form of the algorithm: exact
 * lengths, a point on its curve, not of low order, RSA of the row's size in shortest DER
 */
export function checkRawPublicKey(encoding: KeyEncoding, publicKey: Uint8Array): void {
  if (!hasForm(encoding.publicKey, publicKey)) refuse(encoding.algorithm);
}

function hasForm(form: PublicKeyForm, bytes: Uint8Array): boolean {
  switch (form.kind) {
    case 'bytes':
      return bytes.length === form.length;
    case 'okp':
      return bytes.length === form.length && isAcceptable(form.curve, bytes);
    case 'point':
      return isPoint(form.curve, bytes);
    case 'rsa':
      return isRsa(form.bits, bytes);
    case 'composite':
      return bytes.length > form.pqLength && hasForm(form.classical, bytes.subarray(form.pqLength));
  }
}

function isAcceptable(curve: OkpCurve, bytes: Uint8Array): boolean {
  if (curve === 'X448') return true;
  return curve === 'X25519' ? isX25519PublicKey(bytes) : isEdwardsPublicKey(curve, bytes);
}

const EDWARDS = { Ed25519: ed25519.Point, Ed448: ed448.Point } as const;

/**
 * The one encoding of a point (RFC 8032 sections 5.1.3 and 5.2.3) that is not of small order: under
 * such a key one signature is good for many messages. OpenSSL imports any bytes of the length.
 */
export function isEdwardsPublicKey(curve: keyof typeof EDWARDS, bytes: Uint8Array): boolean {
  try {
    return !EDWARDS[curve].fromBytes(bytes).isSmallOrder();
  } catch {
    // A coordinate that is not below p, or no point of the curve.
    return false;
  }
}

/** Full length, uncompressed, coordinates below p, on the curve. */
export function isPoint(curve: NamedCurve, point: Uint8Array): boolean {
  return importPoint(curve, point) !== undefined;
}

/** The key of such a point; undefined for what is none. OpenSSL's import is the check. */
export function importPoint(curve: NamedCurve, point: Uint8Array): KeyObject | undefined {
  if (point.length !== 1 + 2 * NAMED_CURVES[curve].length || point[0] !== 0x04) return undefined;
  try {
    return createPublicKey({
      key: Buffer.from(point),
      format: 'raw-public',
      asymmetricKeyType: 'ec',
      namedCurve: curve,
    });
  } catch {
    // Off the curve, or a coordinate that is not below p.
    return undefined;
  }
}

function isRsa(bits: RsaBits, bytes: Uint8Array): boolean {
  try {
    return isRsaPublicKey(bits, readRsaPublicKey(bytes));
  } catch (error) {
    if (TwofoldError.is(error, 'invalid_value')) return false;
    throw error;
  }
}

/** Whether the modulus has exactly `bits` and both numbers can be those of an RSA key. */
export function isRsaPublicKey(bits: RsaBits, { n, e }: RsaPublicNumbers): boolean {
  const isOdd = ((n.at(-1) ?? 0) & (e.at(-1) ?? 0) & 1) === 1;
  // An exponent of 1 leaves messages as they are; OpenSSL takes none above 64 bits of a large modulus.
  const isExponent = e.length <= 8 && !(e.length === 1 && (e[0] ?? 0) < 3);
  return bitLength(n) === bits && isOdd && isExponent;
}

/** RSAPublicKey around the modulus, with the exponent 65537: headers, a sign byte, five bytes of e. */
const RSA_OVERHEAD = 14;
const F4 = Uint8Array.of(1, 0, 1);

/** Bytes of the RSAPublicKey of every key that the service makes. */
export function rsaPublicKeyLength(bits: RsaBits): number {
  return bits / 8 + RSA_OVERHEAD;
}

/**
 * Whether `der` is a public key as the service makes them: of `bits`, with the exponent 65537.
 * @throws TwofoldError invalid_value for what is no RSAPublicKey
 */
export function isServiceRsaKey(bits: RsaBits, der: Uint8Array): boolean {
  if (der.length !== rsaPublicKeyLength(bits)) return false;
  const numbers = readRsaPublicKey(der);
  return isRsaPublicKey(bits, numbers) && equalBytes(numbers.e, F4);
}

function bitLength(magnitude: Uint8Array): number {
  return 8 * magnitude.length - Math.clz32(magnitude[0] ?? 0) + 24;
}

/**
 * The numbers of an RSAPublicKey (RFC 8017 appendix A.1.1).
 * @throws TwofoldError invalid_value
 */
export function readRsaPublicKey(der: Uint8Array): RsaPublicNumbers {
  return readDer(der, 'The RSA public key', (reader) => {
    const numbers = reader.enter();
    const [n, e] = [numbers.unsigned(), numbers.unsigned()];
    numbers.end();
    return { n, e };
  });
}

export function writeRsaPublicKey({ n, e }: RsaPublicNumbers): Uint8Array {
  return derSequence(derUnsigned(n), derUnsigned(e));
}
