/**
 * Public keys of the classical groups as bytes: exactly one form of each is taken. Tokens leave these
 * checks out: SoftHSM answers an off-curve or low-order point with CKR_GENERAL_ERROR (which looks like
 * a broken device) and accepts compressed, hybrid and DER-wrapped points.
 *
 * In integers of the language: half the price of OpenSSL's decoding, and nothing here is secret.
 */
import type { Curve } from './suite.ts';

interface PrimeCurve {
  /** Bytes of a coordinate. */
  readonly size: number;
  readonly p: bigint;
  readonly b: bigint;
  /** Generator, as an uncompressed point (SP 800-186 section 3.2.1). */
  readonly generator: string;
}

const PRIME_CURVES: Readonly<Record<'P-256' | 'P-384', PrimeCurve>> = {
  'P-256': {
    size: 32,
    p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
    b: 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn,
    generator:
      '046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296' +
      '4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5',
  },
  'P-384': {
    size: 48,
    p: 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
    b: 0xb3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aefn,
    generator:
      '04aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7' +
      '3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f',
  },
};

/** u-coordinates of small order on Curve25519 and its twist, reduced and not (RFC 7748 section 6.1). */
export const LOW_ORDER_X25519: ReadonlySet<string> = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
]);

/** Bytes of a raw public key of the curve. */
export function pointLength(curve: Curve): number {
  return curve === 'X25519' ? 32 : 1 + 2 * PRIME_CURVES[curve].size;
}

/** Bytes of the shared secret: the x-coordinate, or the X25519 output. */
export function secretLength(curve: Curve): number {
  return curve === 'X25519' ? 32 : PRIME_CURVES[curve].size;
}

export function generatorOf(curve: 'P-256' | 'P-384'): Uint8Array {
  return Uint8Array.from(Buffer.from(PRIME_CURVES[curve].generator, 'hex'));
}

/**
 * True for exactly the public keys that may be used: full length, uncompressed, coordinates below p, on
 * the curve, no low order (SP 800-56A section 5.6.2.3.3).
 */
export function isValidPoint(curve: Curve, point: Uint8Array): boolean {
  if (point.length !== pointLength(curve)) return false;
  return curve === 'X25519' ? isX25519PublicKey(point) : isOnCurve(PRIME_CURVES[curve], point);
}

/** The last point of each curve that was on it: the layers of one operation each ask. */
const lastOn = new Map<PrimeCurve, Uint8Array>();

function isOnCurve(curve: PrimeCurve, point: Uint8Array): boolean {
  const last = lastOn.get(curve);
  // Public, as every point here is.
  if (last !== undefined && Buffer.compare(last, point) === 0) return true;
  if (!fulfilsEquation(curve, point)) return false;
  lastOn.set(curve, Uint8Array.from(point));
  return true;
}

function fulfilsEquation(curve: PrimeCurve, point: Uint8Array): boolean {
  if (point[0] !== 0x04) return false;
  const x = integer(point.subarray(1, 1 + curve.size));
  const y = integer(point.subarray(1 + curve.size));
  if (x >= curve.p || y >= curve.p) return false;
  // y^2 = x^3 - 3x + b; the curves have cofactor 1, so every point on them has the full order.
  return (y * y - (x * x - 3n) * x - curve.b) % curve.p === 0n;
}

const P25519 = 2n ** 255n - 19n;

/**
 * Canonical and not of small order. RFC 7748 section 5 has implementations reduce other values and ignore
 * the top bit; no honest key or ephemeral key is one of them, and one form of each keeps encodings unique.
 */
export function isX25519PublicKey(point: Uint8Array): boolean {
  const value = integer(Uint8Array.from(point).reverse());
  return value < P25519 && !LOW_ORDER_X25519.has(Buffer.from(point).toString('hex'));
}

function integer(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')}`);
}
