/**
 * ECDSA signatures between r ‖ s (PKCS#11, IEEE P1363, JOSE) and DER (Ecdsa-Sig-Value, RFC 3279
 * section 2.2.3). Both directions accept exactly one form per (r, s), with 0 < r, s < n.
 */
import { TwofoldError } from '../errors.ts';
import { concatBytes } from './bytes.ts';
import { derSequence, derUnsigned, readDer } from './der.ts';
import { NAMED_CURVES } from './key-encoding.ts';
import type { NamedCurve } from './key-encoding.ts';

/** Orders of the base points (SP 800-186 section 3.2.1), big-endian. */
const ORDERS: Readonly<Record<NamedCurve, Buffer>> = {
  'P-256': Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex'),
  'P-384': Buffer.from(
    'ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973',
    'hex',
  ),
  'P-521': Buffer.from(
    '01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff' +
      'a51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409',
    'hex',
  ),
};

/** Whether `scalar`, big-endian and as long as a coordinate, is in 1 to n - 1. */
export function isScalar(curve: NamedCurve, scalar: Uint8Array): boolean {
  return (
    scalar.length === NAMED_CURVES[curve].length &&
    scalar.some((byte) => byte !== 0) &&
    Buffer.compare(scalar, ORDERS[curve]) < 0
  );
}

/** @throws RangeError when `raw` is not a valid r ‖ s (a broken signer, not a caller's input) */
export function encodeEcdsaSignature(curve: NamedCurve, raw: Uint8Array): Uint8Array {
  const { length } = NAMED_CURVES[curve];
  const [r, s] = [raw.subarray(0, length), raw.subarray(length)];
  if (!isScalar(curve, r) || !isScalar(curve, s)) {
    throw new RangeError('the signer gave no valid r and s');
  }
  return derSequence(derUnsigned(r), derUnsigned(s));
}

/** Big-endian on the length of a coordinate; longer input stays as it is. */
function fixedWidth(curve: NamedCurve, magnitude: Uint8Array): Uint8Array {
  const missing = Math.max(0, NAMED_CURVES[curve].length - magnitude.length);
  return concatBytes(new Uint8Array(missing), magnitude);
}

/** r ‖ s, or undefined unless `der` is the one DER form of a signature on this curve. */
export function decodeEcdsaSignature(curve: NamedCurve, der: Uint8Array): Uint8Array | undefined {
  try {
    const [r, s] = readDer(der, 'The signature', (reader) => {
      const numbers = reader.enter();
      const read = [numbers.unsigned(), numbers.unsigned()] as const;
      numbers.end();
      return read.map((magnitude) => fixedWidth(curve, magnitude));
    });
    if (r === undefined || s === undefined) return undefined;
    return isScalar(curve, r) && isScalar(curve, s) ? concatBytes(r, s) : undefined;
  } catch (error) {
    if (TwofoldError.is(error, 'invalid_value')) return undefined;
    throw error;
  }
}
